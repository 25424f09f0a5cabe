"""The worker's log: a line for a job that failed or whose clients gave request ids; never the question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.hand_worker import Asker
from tests.servers import RedisServer, WorkerProcess, keymiss_info, wait_until

SCRIPT = """
import time
import redisAI

def answer(record):
    key = str(record['key'])
    execute('INCR', 'begun')
    while execute('EXISTS', 'hold'):
        time.sleep(0.01)
    if 'model' in key:
        for _ in range(2):
            runner = redisAI.createModelRunner('slow')
            redisAI.modelRunnerAddInput(runner, 'x', redisAI.createTensorFromValues('FLOAT', [1], [1]))
            redisAI.modelRunnerAddOutput(runner, 'y')
            redisAI.modelRunnerRun(runner)
    if 'raise' in key:
        raise ValueError('no luck')
    if 'tell' in key:
        log('a note')
    override_reply('him')

for prefix in ('bertqa', 'bertvec', 'other'):
    GB().map(answer).register(prefix, eventTypes=['keymiss'], commands=['get'], mode='async_local')

def on_event(record):
    raise ValueError(record['key'])
GB().map(on_event).register('e:', eventTypes=['set'], mode='async')
"""
SECRET = "Who_is_it?"
SENTENCE = "bertqa{x}_a:{x}:0"
KEY = f"{SENTENCE}_{SECRET}"


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def logging_worker(shard: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(shard, "--backend", "dummy") as running, shard.client() as client:
        assert client.execute_command("RG.PYEXECUTE", SCRIPT) == b"OK"
        blob = json.dumps({"outputs": 1, "delay_ms": 20})
        client.execute_command("AI.MODELSTORE", "slow", "TORCH", "CPU", "BLOB", blob)
        yield running


def lines(worker: WorkerProcess, event: str, id_: str | None = None) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in worker.log_text().splitlines() if line.startswith("{")]
    named = [line for line in every if line["event"] == event]
    return [line for line in named if id_ is None or id_ in line.get("request_ids", [])]


def line(worker: WorkerProcess, event: str, id_: str) -> dict[str, Any]:
    """The one line of the request."""
    wait_until(lambda: lines(worker, event, id_), 10, f"{event} of {id_}")
    (found,) = lines(worker, event, id_)
    return found


def ask(shard: RedisServer, key: str, id_: str) -> Any:
    with shard.client() as client:
        return client.execute_command("KM.MISS", key, "REQUEST", id_)


def test_a_question_has_one_line(shard: RedisServer, logging_worker: WorkerProcess) -> None:
    assert ask(shard, f"{KEY} by model", "one") == b"him"
    done = line(logging_worker, "job_done", "one")
    assert done["t"] > 1e9
    assert 40 <= done["model_ms"] <= done["took_ms"] < 10000  # two runs of 20 ms
    assert 0 <= done["queued_ms"] < 10000
    varying = ("t", "model_ms", "took_ms", "queued_ms")
    assert {name: value for name, value in done.items() if name not in varying} == {
        "level": "info",
        "event": "job_done",
        "request_ids": ["one"],
        "kind": "miss",
        "shard": shard.address,
        "key": SENTENCE,
        "status": "done",
    }


def test_all_who_wait_are_in_it(shard: RedisServer, logging_worker: WorkerProcess) -> None:
    client = shard.client()
    client.delete("begun")
    client.set("hold", 1)
    first = Asker(shard, "KM.MISS", KEY, "REQUEST", "first-one")
    wait_until(lambda: client.get("begun"), 10, "the function runs")
    second = Asker(shard, "KM.MISS", KEY, "REQUEST", "too-late")
    wait_until(lambda: keymiss_info(client)["clients_waiting"] == 2, 10, "it joined")
    client.delete("hold")
    assert [first.result(), second.result()] == [b"him"] * 2
    done = line(logging_worker, "job_done", "first-one")
    assert done["request_ids"] == ["first-one"]
    assert "model_ms" not in done
    assert lines(logging_worker, "job_done", "too-late") == []


def test_a_failed_one_says_so_with_the_same_fields(shard: RedisServer, logging_worker: WorkerProcess) -> None:
    with pytest.raises(ResponseError, match="no luck"):
        ask(shard, f"{KEY} by model, raise", "failing")
    failed = line(logging_worker, "job_failed", "failing")
    assert (failed["status"], failed["error"], failed["key"]) == ("failed", "ValueError: no luck", SENTENCE)
    assert failed["level"] == "warning"
    assert 40 <= failed["model_ms"] <= failed["took_ms"]
    assert lines(logging_worker, "job_done", "failing") == []


def test_one_whose_clients_left_says_so(shard: RedisServer, logging_worker: WorkerProcess) -> None:
    """The shard forgets a job that took its time twice; the answer is late."""
    client = shard.client()
    client.delete("begun")
    client.set("hold", 1)
    client.config_set("keymiss.miss-timeout-ms", 100)
    asker = Asker(shard, "KM.MISS", KEY, "REQUEST", "impatient")
    assert str(asker.result()).startswith("TIMEOUT")
    wait_until(lambda: keymiss_info(client)["jobs_running"] == 0, 10, "the shard forgot it")
    client.delete("hold")
    assert line(logging_worker, "job_done", "impatient")["status"] == "late"
    client.config_set("keymiss.miss-timeout-ms", 30000)


def test_without_an_id_only_what_failed_is_logged(shard: RedisServer, logging_worker: WorkerProcess) -> None:
    client = shard.client()
    before = len(lines(logging_worker, "job_done"))
    assert client.get(KEY) == b"him"
    with pytest.raises(ResponseError):
        client.get("other{x}_raise_1_2")
    client.set("e:an_event_of_a_key", "x")

    def failed() -> dict[str, dict[str, Any]]:
        return {line["key"]: line for line in lines(logging_worker, "job_failed")}

    wait_until(lambda: failed().keys() >= {"other{x}_raise", "e:an_event_of_a_key"}, 10, "both are logged")
    assert "request_ids" not in failed()["other{x}_raise"]
    assert failed()["e:an_event_of_a_key"]["kind"] == "event"
    assert len(lines(logging_worker, "job_done")) == before


def test_a_functions_own_lines_have_the_ids(shard: RedisServer, logging_worker: WorkerProcess) -> None:
    assert ask(shard, f"{KEY} tell", "telling") == b"him"
    assert line(logging_worker, "script", "telling")["message"] == "a note"


@pytest.mark.parametrize(
    ("key", "logged"),
    [
        (f"{SENTENCE}_{SECRET}", SENTENCE),
        (f"bertvec{{x}}_{SECRET}", "bertvec{x}"),
        (f"other_a_{SECRET}", "other_a"),
        ("other", "other"),
        (b"bertvec{x}_\xff\xfe_" + SECRET.encode(), "bertvec{x}"),
    ],
)
def test_the_question_is_not_logged(
    shard: RedisServer, logging_worker: WorkerProcess, key: bytes | str, logged: str
) -> None:
    id_ = f"secret-{hash(key)}"
    assert ask(shard, key, id_) == b"him"  # type: ignore[arg-type]
    assert line(logging_worker, "job_done", id_)["key"] == logged
    assert SECRET not in logging_worker.log_text()
