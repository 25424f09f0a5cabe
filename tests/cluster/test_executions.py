"""Executions: listed, waited for, dropped, aborted, and kept within limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.servers import RedisServer, WorkerProcess, wait_until

ENDLESS = "import time\ndef endless(_):\n    while True:\n        time.sleep(0.01)\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture(scope="module")
def worker(server: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(server, "--job-threads", "2") as started:
        yield started


@pytest.fixture
def client(server: RedisServer, worker: WorkerProcess) -> Iterator[redis.Redis]:
    with server.client(decode_responses=True) as made:
        yield made
        for row in made.execute_command("RG.DUMPREGISTRATIONS"):
            made.execute_command("RG.UNREGISTER", row[1], "ABORTPENDING")
        for id_ in executions(made):
            made.execute_command("RG.ABORTEXECUTION", id_)
        for id_ in executions(made):
            made.execute_command("RG.DROPEXECUTION", id_)
        made.execute_command("RG.CONFIGSET", "MaxExecutions", 1000, "MaxExecutionsPerRegistration", 100)
        made.flushall()


def executions(client: redis.Redis) -> dict[str, tuple[str, int]]:
    """Id -> status, registered."""
    return {row[1]: (row[3], row[5]) for row in client.execute_command("RG.DUMPEXECUTIONS")}


def plan(client: redis.Redis, id_: str) -> dict[str, Any]:
    ((_, _, _, flat),) = client.execute_command("RG.GETEXECUTION", id_)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def unblocking(client: redis.Redis, script: str) -> str:
    return str(client.execute_command("RG.PYEXECUTE", script, "UNBLOCKING"))


def test_what_it_came_to_is_kept_until_it_is_dropped(client: redis.Redis) -> None:
    id_ = unblocking(client, "GB('PythonReader').map(lambda n: 1 / n).run(lambda: iter([2, 0, 4]))")
    results, errors = client.execute_command("RG.GETRESULTSBLOCKING", id_)
    assert results == ["0.5", "0.25"]
    assert errors == ["ZeroDivisionError: division by zero"]
    assert client.execute_command("RG.GETRESULTS", id_) == [results, errors]
    told = plan(client, id_)
    assert (told["status"], told["results"], told["errors"]) == ("done", 2, errors)
    assert executions(client)[id_] == ("done", 0)
    assert client.execute_command("RG.DROPEXECUTION", id_) == "OK"
    for command in ("RG.GETRESULTS", "RG.GETRESULTSBLOCKING", "RG.GETEXECUTION", "RG.DROPEXECUTION"):
        with pytest.raises(redis.ResponseError, match="execution plan does not exist"):
            client.execute_command(command, id_)


def test_one_that_runs(client: redis.Redis) -> None:
    id_ = unblocking(client, "GB('ShardsIDReader').map(lambda _: execute('BLPOP', 'go', 20)[1]).run()")
    assert plan(client, id_)["status"] == "running"
    with pytest.raises(redis.ResponseError, match="execution is still running"):
        client.execute_command("RG.GETRESULTS", id_)
    with pytest.raises(redis.ResponseError, match="can not drop a not yet finished execution"):
        client.execute_command("RG.DROPEXECUTION", id_)
    client.rpush("go", "went")
    assert client.execute_command("RG.GETRESULTSBLOCKING", id_) == [["went"], []]


def test_an_endless_function_ends_on_request(client: redis.Redis) -> None:
    ids = [unblocking(client, ENDLESS + "GB('ShardsIDReader').map(endless).run()") for _ in range(2)]
    for id_ in ids:  # there are no more job threads: nothing else would run
        assert client.execute_command("RG.ABORTEXECUTION", id_) == "OK"
        told = plan(client, id_)
        assert told["status"] == "done"
        assert "aborted" in told["errors"][0]
    assert client.execute_command("RG.PYEXECUTE", "GB('ShardsIDReader').count().run()") == [["1"], []]


def test_a_coroutine_that_waits_ends_too(client: redis.Redis) -> None:
    script = "import asyncio\nasync def wait(_):\n    await asyncio.sleep(600)\n"
    script += "GB('ShardsIDReader').map(wait).run()"
    id_ = unblocking(client, script)
    assert client.execute_command("RG.ABORTEXECUTION", id_) == "OK"
    assert plan(client, id_)["status"] == "done"


def test_a_call_that_cannot_be_interrupted_takes_no_thread_for_ever(
    client: redis.Redis, worker: WorkerProcess
) -> None:
    script = "import time\nGB('ShardsIDReader').map(lambda _: time.sleep(60)).run()"
    id_ = unblocking(client, script)
    assert client.execute_command("RG.ABORTEXECUTION", id_) == "OK"
    assert "cannot be interrupted" in plan(client, id_)["errors"][0]
    wait_until(lambda: worker.log_text().count('"event": "shard_attached"') == 2, 30, "it is there again")
    assert client.execute_command("RG.PYEXECUTE", "GB('ShardsIDReader').count().run()") == [["1"], []]
    assert worker.log_text().count('"event": "started"') == 2


def test_an_event_that_waits_does_not_begin(client: redis.Redis) -> None:
    client.execute_command(
        "RG.PYEXECUTE",
        "GB().foreach(lambda r: execute('BLPOP', 'go', 20)).register('k:', eventTypes=['set'])",
    )
    for n in range(3):
        client.set(f"k:{n}", n)
    wait_until(lambda: [s for s, _ in executions(client).values()].count("running") == 1, 20, "one runs")
    waiting = [
        id_ for id_, (status, registered) in executions(client).items() if status == "created" and registered
    ]
    assert len(waiting) == 2
    assert client.execute_command("RG.ABORTEXECUTION", waiting[1]) == "OK"
    assert plan(client, waiting[1])["status"] == "aborted"
    client.rpush("go", 1, 2)
    wait_until(
        lambda: "created" not in str(executions(client)) and "running" not in str(executions(client)),
        20,
        "all ended",
    )
    assert sorted(status for status, _ in executions(client).values()) == ["aborted", "done", "done"]
    (row,) = client.execute_command("RG.DUMPREGISTRATIONS")
    data = dict(zip(row[7][::2], row[7][1::2], strict=True))
    assert (data["numTriggered"], data["numSuccess"], data["numAborted"]) == (3, 2, 1)


def test_unregister_may_abort_what_is_pending(client: redis.Redis) -> None:
    client.execute_command(
        "RG.PYEXECUTE", ENDLESS + "GB().foreach(endless).register('k:', eventTypes=['set'])"
    )
    for n in range(3):
        client.set(f"k:{n}", n)
    wait_until(lambda: "running" in str(executions(client)), 20, "one runs")
    (row,) = client.execute_command("RG.DUMPREGISTRATIONS")
    assert client.execute_command("RG.UNREGISTER", row[1], "ABORTPENDING") == "OK"
    wait_until(lambda: executions(client) == {}, 20, "none is left")


def test_a_limit_of_each_registration_and_of_all(client: redis.Redis) -> None:
    assert client.execute_command("RG.CONFIGSET", "MaxExecutionsPerRegistration", 3) == ["OK"]
    client.execute_command("RG.PYEXECUTE", "GB().count().register('a:', eventTypes=['set'])")
    client.execute_command("RG.PYEXECUTE", "GB().count().register('b:', eventTypes=['set'])")
    for n in range(10):
        client.set(f"a:{n}", n)
        client.set(f"b:{n}", n)
    wait_until(lambda: [s for s, _ in executions(client).values()] == ["done"] * 6, 20, "three of each")
    client.execute_command("RG.CONFIGSET", "MaxExecutions", 4)
    assert len(executions(client)) == 4


def test_it_ends_with_its_worker(server: RedisServer, client: redis.Redis) -> None:
    with RedisServer() as other, other.client(decode_responses=True) as there:
        doomed = WorkerProcess(other).start()
        id_ = str(
            there.execute_command(
                "RG.PYEXECUTE", ENDLESS + "GB('ShardsIDReader').map(endless).run()", "UNBLOCKING"
            )
        )
        doomed.kill()
        began_s = time.monotonic()
        assert there.execute_command("RG.GETRESULTSBLOCKING", id_) == [
            [],
            ["the worker that ran this is gone"],
        ]
        assert time.monotonic() - began_s < 10


def test_the_client_s_time_in_the_slow_log_is_the_function_s(client: redis.Redis) -> None:
    client.config_set("slowlog-log-slower-than", 200000)
    script = "import time\nGB('CommandReader').foreach(lambda _: time.sleep(0.3)).register(trigger='slow')"
    client.execute_command("RG.PYEXECUTE", script)
    client.execute_command("RG.TRIGGER", "slow")
    assert any("RG.TRIGGER slow" in str(entry["command"]) for entry in client.slowlog_get(10))


def test_bad_input(client: redis.Redis) -> None:
    for command in ("RG.GETEXECUTION", "RG.ABORTEXECUTION"):
        with pytest.raises(redis.ResponseError, match="execution plan does not exist"):
            client.execute_command(command, "0" * 40 + "-99999")
    id_ = unblocking(client, "GB('ShardsIDReader').run()")
    client.execute_command("RG.GETRESULTSBLOCKING", id_)
    with pytest.raises(redis.ResponseError, match="no cluster detected"):
        client.execute_command("RG.GETEXECUTION", id_, "CLUSTER")
    with pytest.raises(redis.ResponseError, match="unknown subcommand"):
        client.execute_command("RG.GETEXECUTION", id_, "x")
