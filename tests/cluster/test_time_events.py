"""registerTE: a function that runs every so many seconds, as long as its key is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.servers import RedisServer, WorkerProcess, wait_until

SCRIPT = "registerTE(1, lambda: execute('INCR', 'n'), 'the event')"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


def count(client: redis.Redis) -> int:
    return int(client.get("n") or 0)


def test_it_lives_with_its_key_and_on_after_a_restart(server: RedisServer) -> None:
    with WorkerProcess(server):
        with server.client(decode_responses=True) as client:
            assert client.execute_command("RG.PYEXECUTE", SCRIPT) == "OK"
            assert client.exists("the event")
            wait_until(lambda: count(client) >= 2, 20, "it ran twice")
        server.restart()
        with server.client(decode_responses=True) as client:
            before = count(client)
            wait_until(lambda: count(client) > before, 40, "it goes on")
            client.delete("the event")
            wait_until(lambda: client.execute_command("RG.DUMPREGISTRATIONS") == [], 20, "it is gone")


def test_a_key_that_is_there_and_one_without_a_key(server: RedisServer) -> None:
    with WorkerProcess(server), server.client(decode_responses=True) as client:
        client.set("taken", 1)
        script = (
            "made = registerTE(1, lambda: execute('INCR', 'n'), 'taken')\nexecute('SET', 'made', str(made))"
        )
        client.execute_command("RG.PYEXECUTE", script)
        assert client.get("made") == "False"
        assert client.execute_command("RG.DUMPREGISTRATIONS") == []
        client.execute_command(
            "RG.PYEXECUTE", "redisgears.registerTimeEvent(1, lambda: execute('INCR', 'n'))"
        )
        wait_until(lambda: count(client) >= 1, 20, "it ran")
        (row,) = client.execute_command("RG.DUMPREGISTRATIONS")
        assert client.execute_command("RG.UNREGISTER", row[1]) == "OK"
