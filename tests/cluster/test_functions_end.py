"""A function that never ends is ended, and so is one that hides from it: then the worker begins anew."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from keymiss.worker.model_processes.memory import family_of
from tests.hand_worker import Asker
from tests.patience import patient
from tests.servers import RedisServer, WorkerProcess, keymiss_info, wait_until

FUNCTIONS = """
import asyncio, os, time

def kind_of(record):
    return record['key'].split(':')[1]

def spin(record):
    kind = kind_of(record)
    execute('RPUSH', 'began', kind)
    caught = 0
    while kind != 'quick':
        try:
            while kind == 'sleeps':
                time.sleep(3600)
            while True:
                pass
        except Exception:
            pass
        except BaseException:
            caught += 1
            if kind != 'stubborn' or caught > 1:
                raise
    override_reply('done')

async def spin_async(record):
    while True:
        await asyncio.sleep(0)

async def leave_behind(record):
    async def stays():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    asyncio.ensure_future(stays())
    await asyncio.sleep(0)

def spin_many(records):
    spin(records[0])

def endless_event(record):
    execute('RPUSH', 'began', 'event')
    while True:
        pass

async def pid(record):
    override_reply(os.getpid())

def register(function, prefix, **more):
    GB(desc=prefix).foreach(function).register(
        prefix, eventTypes=['keymiss'], commands=['get'], mode='async_local', **more)

register(spin, 'spin:')
register(spin_async, 'async:')
register(leave_behind, 'leaves:')
register(spin_many, 'many:', missBatch=8)
register(pid, 'pid:')
GB(desc='event').foreach(endless_event).register('event:', eventTypes=['set'], mode='async_local')
"""
TEXT = "the function took too long and was ended: "


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer("--keymiss.noworker-grace-ms", "30000") as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with server.client() as client:
        client.flushall()
        yield client


def started(server: RedisServer, client: Any, *args: str) -> WorkerProcess:
    worker = WorkerProcess(server, "--backend", "dummy", *args).start()
    client.config_set("keymiss.miss-timeout-ms", 30000)
    assert client.execute_command("RG.PYEXECUTE", FUNCTIONS) == b"OK"
    assert int(client.get("pid:1")) == worker.pid
    return worker


def test_loops_end_and_the_worker_stays(server: RedisServer, client: Any) -> None:
    """More than it has threads: the misses after them are answered by the same process."""
    worker = started(server, client, "--job-threads", "3")
    client.config_set("keymiss.miss-timeout-ms", 700)
    endless = ("spin:loops", "spin:stubborn", "many:1", "async:1", "leaves:1")
    askers = [Asker(server, "GET", key) for key in endless]
    for asker in askers:
        assert str(asker.result()).startswith("TIMEOUT")
    client.config_set("keymiss.miss-timeout-ms", 30000)
    assert int(client.get("pid:2")) == worker.pid
    assert client.get("spin:quick") == b"done"
    wait_until(lambda: keymiss_info(client)["jobs_running"] == 0)
    assert f"{TEXT}keymiss.miss-timeout-ms" in worker.log_text()
    worker.terminate()
    assert worker.log_text().count('"event": "started"') == 1
    worker.discard()


def test_an_event_has_the_limit_of_the_worker(server: RedisServer, client: Any) -> None:
    worker = started(server, client, "--job-limit-s", "1")
    client.set("event:1", "x")
    text = f"{TEXT}--job-limit-s of the worker, 1 s"
    wait_until(lambda: text in str(client.execute_command("RG.DUMPREGISTRATIONS")), 20)
    assert int(client.get("pid:1")) == worker.pid
    worker.terminate()
    worker.discard()


def test_what_cannot_be_interrupted_makes_the_worker_begin_anew(server: RedisServer, client: Any) -> None:
    """With the same process id and arguments. The job is not done again; others are answered. Of its library
    process nothing is left."""
    worker = started(server, client, "--job-threads", "2", "--name", "the-name", "--preload")
    (library,) = family_of(worker.pid)[1:]
    client.config_set("keymiss.miss-timeout-ms", 500)
    assert str(Asker(server, "GET", "spin:sleeps").result()).startswith("TIMEOUT")
    client.config_set("keymiss.miss-timeout-ms", 30000)
    wait_until(lambda: worker.log_text().count('"event": "started"') == 2, 30)
    assert int(client.get("pid:3")) == worker.pid
    assert library not in family_of(worker.pid), "a zombie"
    assert client.get("spin:quick") == b"done"
    assert client.lrange("began", 0, -1) == [b"sleeps", b"quick"]
    assert worker.log_text().count('"name": "the-name"') == 2
    assert keymiss_info(client)["jobs_running"] == 0
    assert worker.terminate() == 0
    worker.discard()


def test_a_worker_that_begins_anew_is_stopped(server: RedisServer, client: Any) -> None:
    worker = started(server, client, "--grace-s", "1", "--preload")
    client.config_set("keymiss.miss-timeout-ms", 500)
    assert str(Asker(server, "GET", "spin:sleeps").result()).startswith("TIMEOUT")
    wait_until(lambda: '"event": "stopped"' in worker.log_text(), 30, pause_s=0.0005)
    worker.signal(signal.SIGTERM)
    assert worker.process is not None
    assert worker.process.wait(patient(10)) in (0, -signal.SIGTERM)
    worker.discard()
