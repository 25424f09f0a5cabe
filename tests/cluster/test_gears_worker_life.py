"""The worker's life: SIGTERM, SIGKILL, exit codes, a shard that fails over."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import RedisError, ResponseError

from keymiss import keys
from keymiss.worker.lifecycle import EXIT_NO_NODE, EXIT_OK, EXIT_UNFINISHED, EXIT_USAGE
from tests.patience import patient
from tests.servers import (
    REPO,
    RedisClusterServers,
    RedisServer,
    WorkerProcess,
    free_port,
    keymiss_info,
    wait_until,
)

SCRIPT = """
import time
def answer(record):
    seconds = float(record['key'].split(':')[1])
    if seconds:
        execute('INCR', 'started')
    time.sleep(seconds)
    override_reply('done')
GB().map(answer).register('wait:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
GB().map(answer).register('tag', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""


class Asker(threading.Thread):
    """A client that GETs one key; `answer` is the reply or the error."""

    def __init__(self, server: RedisServer, key: str) -> None:
        super().__init__(daemon=True)
        self.server, self.key = server, key
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        try:
            with self.server.client() as client:
                self.answer = client.get(self.key)
        except RedisError as error:
            self.answer = error


def answers(askers: list[Asker]) -> list[Any]:
    for asker in askers:
        asker.join(patient(30))
        assert not asker.is_alive()
    return [asker.answer for asker in askers]


def upload(server: RedisServer) -> None:
    with server.client() as client:
        assert client.execute_command("RG.PYEXECUTE", SCRIPT) == b"OK"
        client.config_set("keymiss.noworker-grace-ms", 20000)  # the second worker may take a while to start


def started(server: RedisServer, count: int) -> Callable[[], bool]:
    """A condition: `count` functions that take their time have begun."""

    def condition() -> bool:
        with server.client() as client:
            return int(client.get("started") or 0) == count

    return condition


def test_sigterm_finishes_what_runs_and_gives_back_the_rest(server: RedisServer) -> None:
    first = WorkerProcess(server, "--job-threads", "1").start()
    upload(server)
    askers = [Asker(server, "wait:1:0")]
    wait_until(started(server, 1), what="the job runs")
    askers += [Asker(server, f"wait:0:{number}") for number in range(5)]
    assert first.terminate() == EXIT_OK
    assert askers[0].answer == b"done"
    with WorkerProcess(server):
        assert answers(askers) == [b"done"] * 6
    first.discard()


def test_sigterm_with_a_job_that_takes_too_long(server: RedisServer) -> None:
    first = WorkerProcess(server, "--grace-s", "0.2").start()
    upload(server)
    asker = Asker(server, "wait:3:0")
    wait_until(started(server, 1), what="the job runs")
    assert first.terminate() == EXIT_UNFINISHED
    with WorkerProcess(server):
        assert answers([asker]) == [b"done"]
    assert '"unfinished": 1' in first.log_text()
    first.discard()


def test_a_killed_worker_costs_a_second_try_only(server: RedisServer) -> None:
    first = WorkerProcess(server, "--job-threads", "8").start()
    upload(server)
    askers = [Asker(server, f"wait:1:{number}") for number in range(20)]
    wait_until(started(server, 8), what="jobs run")
    first.kill()
    with WorkerProcess(server):
        assert answers(askers) == [b"done"] * 20
    first.discard()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_stops_clean(server: RedisServer, number: signal.Signals) -> None:
    worker = WorkerProcess(server).start()
    worker.signal(number)
    assert worker.process is not None
    assert worker.process.wait(patient(10)) == EXIT_OK
    worker.discard()


def exit_code(*args: str) -> tuple[int, str]:
    """Of a worker that is started with these arguments and ends by itself; and what it logged."""
    command = [sys.executable, "-m", "keymiss.worker", *args]
    ended = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=patient(30))
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--nodes", "x"], "'x' is not host:port"),
        (["--nodes", ""], "no nodes given"),
        (["--job-threads", "0"], "'--job-threads': Input should be greater than or equal to 1"),
        (["--backend", "magic"], "'magic' is not one of"),
        (["--nodes", "a:1", "--library-socket", "/none/s"], "/none is no folder that this user may write to"),
        (["--nodes", "a:1", "--library-socket", "/tmp/" + "s" * 103], "path has 107 bytes at most"),
        (["--nodes", "a:1", "--library-socket", "/tmp"], "/tmp is there, and is no socket"),
    ],
)
def test_bad_arguments(args: list[str], text: str) -> None:
    code, log = exit_code(*args)
    assert code == EXIT_USAGE
    assert text in log


def test_no_node_answers() -> None:
    code, log = exit_code("--nodes", f"127.0.0.1:{free_port()}", "--startup-s", "0.5")
    assert code == EXIT_NO_NODE
    assert '"no_node"' in log


def test_a_promoted_replica_is_attached_and_answers() -> None:
    with RedisClusterServers(masters=3, replicas=1) as cluster, WorkerProcess(cluster):
        upload(cluster.masters[0])
        tag = keys.tag_for_slot(0)
        key = f"tag{{{tag}}}:0"
        with cluster.client() as client:
            assert client.get(key) == b"done"
        victim, heir = cluster.masters[0], cluster.replicas[0]
        victim.kill()

        def promoted() -> bool:
            with heir.client() as client:
                return bool(
                    client.info("replication")["role"] == "master" and keymiss_info(client)["workers"]
                )

        wait_until(promoted, 30, "the replica is master and has a worker")

        def answered() -> bool:
            with heir.client() as client:
                return bool(client.get(key) == b"done")

        wait_until(answered, 20, "the promoted replica answers a miss")


def test_without_a_worker_the_client_hears_so(server: RedisServer) -> None:
    with WorkerProcess(server):
        upload(server)
    with server.client() as client:
        client.config_set("keymiss.noworker-grace-ms", 100)
        with pytest.raises(ResponseError, match="NOWORKER"):
            client.get("wait:0:0")
