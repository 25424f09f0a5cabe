"""KM.PULL says when models changed; KM.DONE and KM.FAIL count only while a model is what it was."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from tests.hand_worker import Asker, HandWorker, bulk, register_miss
from tests.servers import RedisServer, WorkerProcess, wait_until

RUN_SAYS_WHICH = """
import redisAI

def outputs(model):
    for n in (1, 2):
        runner = redisAI.createModelRunner(model)
        redisAI.modelRunnerAddInput(runner, 'x', redisAI.createTensorFromValues('FLOAT', [1], [1]))
        for _ in range(n):
            redisAI.modelRunnerAddOutput(runner, 'y')
        try:
            return len(redisAI.modelRunnerRun(runner))
        except Exception:
            pass

def run(record):
    before = outputs('m')
    if record['key'].endswith('replaced'):
        execute('COPY', 'two', 'm', 'REPLACE')
    override_reply(f"{before} {outputs('m')}")

GB('KeysReader').foreach(run).register(
    prefix='which:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""


def store(client: redis.Redis, key: str = "m", blob: str = "{}") -> None:
    client.execute_command("AI.MODELSTORE", key, "TORCH", "CPU", "BLOB", blob)


def version(client: redis.Redis, key: str = "m") -> int:
    number: int = client.execute_command("KM.MODELINFO", key)[1]
    return number


def epoch(server: RedisServer, worker: HandWorker, key: str = "bertqa{x}_a:{x}:0_Who?") -> int:
    asker = Asker(server, "GET", key)
    (job,) = worker.pull()
    assert worker.done(job, bulk(b"x")) == 1
    assert asker.result() == b"x"
    return job.models_epoch


def expire(client: redis.Redis) -> None:
    client.pexpire("m", 1)
    time.sleep(0.01)
    wait_until(lambda: client.exists("m") == 0, 5)


@pytest.mark.parametrize(
    "change",
    [
        store,
        lambda c: store(c, "other"),
        lambda c: c.delete("m"),
        lambda c: c.unlink("m"),
        lambda c: c.set("m", "x"),
        lambda c: c.rename("m", "n"),
        lambda c: c.copy("m", "n"),
        lambda c: c.restore("m", 0, c.dump("m"), replace=True),
        lambda c: c.execute_command("AI.MODELDEL", "m"),
        lambda c: c.execute_command("KM.MODELDIGEST", "m", version(c), "ab" * 32),
        lambda c: c.flushall(),
        lambda c: c.flushdb(asynchronous=True),
        lambda c: c.swapdb(0, 1),
        expire,
    ],
    ids=[
        "store",
        "store-other",
        "del",
        "unlink",
        "set",
        "rename",
        "copy",
        "restore",
        "modeldel",
        "digest",
        "flushall",
        "flushdb-async",
        "swapdb",
        "expire",
    ],
)
def test_jobs_say_that_models_changed(server: RedisServer, change: Callable[[redis.Redis], object]) -> None:
    client, worker = server.client(), HandWorker(server)
    register_miss(client)
    store(client)
    before = epoch(server, worker)
    client.set("no-model", "x")
    client.delete("no-model")
    assert epoch(server, worker) == before
    change(client)
    after = epoch(server, worker)
    assert after != before
    assert epoch(server, worker) == after


def test_an_answer_of_a_model_that_was_replaced_does_not_count(server: RedisServer) -> None:
    client, worker = server.client(), HandWorker(server)
    register_miss(client)
    store(client)
    store(client, "lower")
    old, lower = version(client), version(client, "lower")
    asker = Asker(server, "GET", "bertqa{x}_a:{x}:0_Who?")
    (job,) = worker.pull()
    store(client)
    done = worker.client.execute_command
    assert done("KM.DONE", job.id, bulk(b"old"), "MODELS", "m", old) == -1
    assert done("KM.DONE", job.id, bulk(b"old"), "MODELS", "lower", lower, "m", old) == -1
    assert done("KM.FAIL", job.id, "old", "MODELS", "m", old) == -1
    assert done("KM.FAIL", job.id, "old", "PLAIN", "MODELS", "m", old) == -1
    assert done("KM.DONE", job.id, bulk(b"old"), "MODELS", "gone", old) == -1
    assert done("KM.DONE", job.id, bulk(b"new"), "MODELS", "lower", lower, "m", version(client)) == 1
    assert asker.result() == b"new"
    assert done("KM.DONE", job.id, bulk(b"old"), "MODELS", "m", old) == 0  # it has ended, whatever the model


@pytest.mark.parametrize(
    "words",
    [["MODELS"], ["MODELS", "m"], ["MODELS", "m", "1", "n"], ["MODELS", "m", "x"], ["OTHERS", "m", "1"]],
)
@pytest.mark.parametrize("command", ["KM.DONE", "KM.FAIL"])
def test_what_is_no_version_is_an_error(server: RedisServer, command: str, words: list[str]) -> None:
    client, worker = server.client(), HandWorker(server)
    register_miss(client)
    asker = Asker(server, "GET", "bertqa{x}_a:{x}:0_Who?")
    (job,) = worker.pull()
    with pytest.raises(redis.ResponseError, match=r"syntax|whole number"):
        client.execute_command(command, job.id, bulk(b"x"), *words)
    assert worker.done(job, bulk(b"goes on")) == 1
    assert asker.result() == b"goes on"


def test_a_function_runs_the_model_that_there_is(server: RedisServer) -> None:
    """Also when another client, or the function itself, has replaced it a moment ago."""
    with WorkerProcess(server, "--backend", "dummy"), server.client() as client:
        for name, outputs in (("one", 1), ("two", 2)):
            store(client, name, f'{{"outputs": {outputs}}}')
        client.execute_command("RG.PYEXECUTE", RUN_SAYS_WHICH)
        for n in range(20):
            assert client.copy("one", "m", replace=True)
            assert client.get(f"which:{n}") == b"1 1"
            assert client.get(f"which:{n}:again") == b"1 1"
            assert client.copy("two", "m", replace=True)
            assert client.get(f"which:{n}:then") == b"2 2"
            assert client.copy("one", "m", replace=True)
            assert client.get(f"which:{n}:replaced") == b"1 2"
