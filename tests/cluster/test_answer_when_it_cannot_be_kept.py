"""A shard that takes no writes is asked: the answer is given, not kept, counted, and logged once."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import redis

from keymiss import keys
from keymiss.models import load, load_encoder
from keymiss.reading.stored_vector import question_from_bytes
from tests.servers import REPO, RedisClusterServers, RedisServer, WorkerProcess, free_port, wait_until

SENTENCE = "Among adults, viral transmission is performed mainly by young parents of school children."
METRICS_PORT = free_port()
TAG = keys.tag_for_slot(0)


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    """The one master of a cluster."""
    with RedisClusterServers(masters=1) as servers:
        yield servers.nodes[0]


@pytest.fixture(scope="module")
def worker(shard: RedisServer) -> Iterator[WorkerProcess]:
    """Its digests of the models are not told to the shard yet, as it runs none before it is asked."""
    with WorkerProcess(shard, "--metrics-port", str(METRICS_PORT)) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(shard: RedisServer, worker: WorkerProcess) -> Iterator[redis.Redis]:
    assert load.main(["--model", "models/reader", "--nodes", shard.address]) == 0
    assert load_encoder.main(["--nodes", shard.address]) == 0
    with shard.client() as made:
        for name in ("qa.py", "vectors.py", "question_vector.py"):
            assert made.execute_command("RG.PYEXECUTE", (REPO / "gears" / name).read_text()) == b"OK"
        made.hset(keys.sentence_key("PMC1", TAG), "0", SENTENCE)
        wait_until(lambda: made.exists(keys.vectors_key("PMC1", TAG)), 20)
        yield made


@pytest.fixture
def client(shard: RedisServer, loaded: redis.Redis) -> Iterator[redis.Redis]:
    with shard.client() as made:
        yield made


@contextmanager
def memory_is_full(shard: RedisServer) -> Iterator[None]:
    with shard.client() as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", 1)
        try:
            yield
        finally:
            admin.config_set("maxmemory", 0)


@contextmanager
def saving_fails(shard: RedisServer) -> Iterator[None]:
    """A folder is where the dump belongs."""
    dump = shard.folder / "dump.rdb"
    with shard.client() as admin:
        dump.mkdir()
        try:
            admin.config_set("save", "3600 1")
            admin.bgsave()
            wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", 10)
            yield
        finally:
            shutil.rmtree(dump)
            admin.config_set("save", "")
            admin.bgsave()
            wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok", 10)
            dump.unlink()


@contextmanager
def replicas_are_missing(shard: RedisServer) -> Iterator[None]:
    with shard.client() as admin:
        admin.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            admin.config_set("min-replicas-to-write", 0)


def may_not(command: str) -> Callable[[RedisServer], AbstractContextManager[None]]:
    @contextmanager
    def forbidden(shard: RedisServer) -> Iterator[None]:
        with shard.client() as admin:
            admin.execute_command("ACL", "SETUSER", "default", f"-{command}")
            try:
                yield
            finally:
                admin.execute_command("ACL", "SETUSER", "default", f"+{command}")

    return forbidden


REFUSALS = {
    "OOM": memory_is_full,
    "MISCONF": saving_fails,
    "NOREPLICAS": replicas_are_missing,
    "NOPERM": may_not("eval"),
    "other": may_not("set"),  # in the script: the server has no word for it
}


def counted(kind: str, reason: str) -> float:
    """keymiss_worker_not_kept_total of the worker's /metrics."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10).read().decode()
    pattern = rf'^keymiss_worker_not_kept_total\{{kind="{kind}",reason="{reason}"\}} (\S+)$'
    found = re.search(pattern, page, re.M)
    assert found, (kind, reason)
    return float(found[1])


def lines(worker: WorkerProcess, kind: str, reason: str) -> list[dict[str, object]]:
    said = [json.loads(line) for line in worker.log_text().splitlines() if '"not_kept"' in line]
    return [line for line in said if (line["kind"], line["reason"]) == (kind, reason)]


@pytest.mark.parametrize("reason", REFUSALS)
def test_the_answer_is_given(
    shard: RedisServer, client: redis.Redis, worker: WorkerProcess, reason: str
) -> None:
    question = f"Who performs viral transmission among adults, {reason}"
    answer, span = (make("PMC1", TAG, 0, question) for make in (keys.answer_key, keys.span_key))
    before = counted("answer", reason)
    with REFUSALS[reason](shard):
        for _ in range(3):
            assert "parents" in client.get(answer).decode()
            assert "parents" in json.loads(client.get(span))["answer"]
        assert client.exists(answer, span) == 0
    # it goes in one round trip with the answer, and is counted when that has come back
    wait_until(lambda: counted("answer", reason) == before + 6, 5)
    (line,) = lines(worker, "answer", reason)
    assert line["shard"] == shard.address
    assert line["error"]
    assert question not in str(line)
    given = client.get(answer)
    assert client.getrange(answer, 0, -1) == given, "kept, as soon as the shard takes it"
    assert counted("answer", reason) == before + 6


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_questions_vector_is_given(
    shard: RedisServer, client: redis.Redis, worker: WorkerProcess, reason: str
) -> None:
    key = keys.question_vector_key(TAG, f"viral transmission, {reason}")
    before = counted("vector", reason)
    with REFUSALS[reason](shard):
        for _ in range(3):
            assert question_from_bytes(client.get(key)) is not None
        assert client.exists(key) == 0
    assert counted("vector", reason) == before + 3
    assert len(lines(worker, "vector", reason)) == 1
    client.get(key)
    assert client.exists(key) == 1


def test_a_sentence_whose_tensor_cannot_be_kept_is_read(
    shard: RedisServer, client: redis.Redis, worker: WorkerProcess
) -> None:
    client.unlink(keys.tokenized_key("PMC1", TAG, 0))
    before = counted("tensor", "OOM")
    with memory_is_full(shard):
        answer = client.get(keys.answer_key("PMC1", TAG, 0, "Who transmits when there is no tensor"))
        assert b"parents" in answer
        assert client.exists(keys.tokenized_key("PMC1", TAG, 0)) == 0
    wait_until(lambda: counted("tensor", "OOM") == before + 1, 5)


@pytest.mark.parametrize("reason", ["OOM", "MISCONF", "NOREPLICAS"])
def test_a_model_that_nobody_has_run_yet_is_run(
    shard: RedisServer, client: redis.Redis, worker: WorkerProcess, reason: str
) -> None:
    """Its digest, which the worker computes at its first run, cannot be noted; later it is."""
    model = keys.model_key(TAG)
    flat = client.execute_command("AI.MODELGET", model, "META", "BLOB")
    meta = dict(zip(flat[::2], flat[1::2], strict=True))
    client.execute_command("AI.MODELSTORE", model, meta[b"backend"], meta[b"device"], "BLOB", meta[b"blob"])
    with REFUSALS[reason](shard):
        assert b"parents" in client.get(keys.answer_key("PMC1", TAG, 0, f"Who is asked first, {reason}"))
    assert b"parents" in client.get(keys.answer_key("PMC1", TAG, 0, f"Who is asked then, {reason}"))
    with shard.client(decode_responses=True) as reader:
        assert reader.execute_command("KM.MODELINFO", model)[-1]


def test_a_write_of_a_client_is_refused_with_the_servers_own_error(
    shard: RedisServer, client: redis.Redis
) -> None:
    with memory_is_full(shard), pytest.raises(redis.exceptions.OutOfMemoryError, match="maxmemory"):
        client.set("paragraphs:PMC2", "text")


def test_an_error_of_the_function_is_still_one(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="there is no sentence"):
        client.get(keys.answer_key("PMC1", TAG, 7, "Who"))
