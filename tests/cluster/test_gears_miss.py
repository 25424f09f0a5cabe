"""A GET that misses is answered by a function: replies, errors, single flight, settings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.patience import patient
from tests.servers import RedisServer, WorkerProcess, keymiss_info, wait_until

SCRIPT = """
import asyncio

NAMES = 'plain nothing reply settings twice leaves'.split()

def body(record):
    return record['key'].split(':', 1)[1]

def plain(record):
    execute('SET', record['key'], 'stored')
    override_reply('hello ' + body(record))

async def slow(record):
    await asyncio.sleep(float(body(record)))
    execute('INCR', 'runs')
    override_reply([1, 'two', None, b'3'])

async def fails_before(record):
    raise ValueError('before ' + body(record))

async def fails_after(record):
    await asyncio.sleep(0)
    raise ValueError('after ' + body(record))

def nothing(record):
    return record

def reply(record):
    override_reply(eval(body(record)))

def settings(record):
    override_reply([gearsConfigGet('cache', 'x'), GearsConfigGet('no', 'x'), hashtag(), str(record)])

def twice(record):
    override_reply('1')
    override_reply('2')

def leaves(record):
    import sys
    sys.exit(3)

for name, function in list(globals().items()):
    if asyncio.iscoroutinefunction(function) or name in NAMES:
        GB(desc=name).map(function).register(
            prefix=name + ':*', mode='async_local', eventTypes=['keymiss'], commands=['get'])
"""


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def own_worker(own_server: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(own_server) as running:
        yield running


@pytest.fixture
def shard(own_server: RedisServer, own_worker: WorkerProcess) -> RedisServer:
    """One shard for all tests, emptied and with the script uploaded anew."""
    with own_server.client() as client:
        client.flushall()
        client.config_set("keymiss.cache", "yes")
        assert client.execute_command("RG.PYEXECUTE", SCRIPT) == b"OK"
    return own_server


def get(shard: RedisServer, key: str) -> Any:
    with shard.client() as client:
        return client.execute_command("GET", key)


def test_the_function_answers_and_stores(shard: RedisServer) -> None:
    assert get(shard, "plain:you") == b"hello you"
    assert get(shard, "plain:you") == b"stored"


def test_coroutines_answer(shard: RedisServer) -> None:
    assert get(shard, "slow:0.01") == [1, b"two", None, b"3"]


def test_clients_of_one_key_share_a_run(shard: RedisServer) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(get(shard, "slow:0.5"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[1, b"two", None, b"3"]] * 20
    assert get(shard, "runs") == b"1"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("fails_before:x", "FAILED ValueError: before x"),
        ("fails_after:x", "FAILED ValueError: after x"),
        ("twice:x", "FAILED GearsError: override_reply can be called once only"),
        ("leaves:x", r"FAILED GearsError: the function called exit\(3\)"),
    ],
)
def test_errors_reach_the_client_at_once(shard: RedisServer, key: str, text: str) -> None:
    with pytest.raises(ResponseError, match=text):
        get(shard, key)
    assert get(shard, "plain:still") == b"hello still"


@pytest.mark.parametrize(
    ("expression", "reply"),
    [
        ("None", None),
        ("5", 5),
        ("b'\\x00\\xff'", b"\x00\xff"),
        ("'-80 degrees'", b"-80 degrees"),
        ("'+OK'", b"OK"),
        ("''", b""),
        ("[[], ['a']]", [[], [b"a"]]),
        ("'x' * 1000000", b"x" * 1000000),
    ],
)
def test_what_override_reply_takes(shard: RedisServer, expression: str, reply: object) -> None:
    assert get(shard, f"reply:{expression}") == reply


def test_override_reply_with_an_error(shard: RedisServer) -> None:
    with pytest.raises(ResponseError, match=r"^no such thing$"):
        get(shard, "reply:'-ERR no such thing'")


def test_without_override_reply_the_client_gets_nil(shard: RedisServer) -> None:
    assert get(shard, "nothing:x") is None


def test_settings_that_a_function_sees(shard: RedisServer) -> None:
    record = b"{'key': 'settings:x', 'value': None, 'type': 'empty', 'event': 'keymiss'}"
    assert get(shard, "settings:x") == [b"yes", b"x", b"1bz", record]
    with shard.client() as client:
        client.config_set("keymiss.cache", "no")
    assert get(shard, "settings:x")[0] == b"no"


def test_registrations_survive_a_new_worker(shard: RedisServer, own_worker: WorkerProcess) -> None:
    own_worker.restart()
    assert get(shard, "plain:again") == b"hello again"


def test_registrations_survive_a_restart_of_the_shard(shard: RedisServer, own_worker: WorkerProcess) -> None:
    shard.restart()
    wait_until(own_worker.attached, 15, "attached again")
    assert get(shard, "plain:again") == b"hello again"


def test_unregister(shard: RedisServer) -> None:
    with shard.client() as client:
        rows = client.execute_command("KM.REGISTRATIONS")
        (plain,) = [row[0] for row in rows if row[4] == b"plain"]
        assert client.execute_command("RG.UNREGISTER", plain) == b"OK"
        assert len(client.execute_command("KM.REGISTRATIONS")) == len(rows) - 1
        assert client.get("plain:gone") is None
        with pytest.raises(ResponseError, match="unknown registration"):
            client.execute_command("RG.UNREGISTER", plain)


def test_uploading_again_does_not_run_twice(shard: RedisServer) -> None:
    with shard.client() as client:
        before = len(client.execute_command("KM.REGISTRATIONS"))
        for _ in range(2):
            assert client.execute_command("RG.PYEXECUTE", SCRIPT) == b"OK"
        assert len(client.execute_command("KM.REGISTRATIONS")) == before
    get(shard, "slow:0.001")
    assert get(shard, "runs") == b"1"


def test_functions_that_ask_for_misses_do_not_lock_the_worker_up(server: RedisServer) -> None:
    script = """
def ask(record):
    depth = int(record['key'].rsplit(':')[-1])
    below = execute('GET', record['key'].rsplit(':', 1)[0] + ':' + str(depth - 1)) if depth else '0'
    override_reply(str(int(below) + 1))
GB().map(ask).register('deep:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""
    with WorkerProcess(server, "--job-threads", "2"), server.client(socket_timeout=patient(30)) as client:
        client.execute_command("RG.PYEXECUTE", script)
        assert client.get("deep:x:8") == b"9"
        assert keymiss_info(client)["jobs_done"] >= 9
