"""The API in front of real shards with the module, the functions, the embedded reader and a worker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.client import Answers, Unavailable
from keymiss.models import load
from tests.api.processes import QUESTION, SENTENCES, ApiProcess, fill, shard_tags
from tests.servers import REPO, RedisClusterServers, WorkerProcess, wait_until
from tests.unit.test_split_halves import split_folder

ALL = 3 * len(SENTENCES)  # asked on three shards: those without a word of the question are neighbours


@pytest.fixture(scope="module")
def shards() -> Iterator[RedisClusterServers]:
    """A cluster of this file's own: its last tests end the worker and a master.

    Three masters, since two cannot agree on a failover."""
    servers = RedisClusterServers("--cluster-require-full-coverage", "no", masters=3, replicas=1)
    with servers:
        yield servers


@pytest.fixture(scope="module")
def worker(shards: RedisClusterServers) -> Iterator[WorkerProcess]:
    with WorkerProcess(shards) as running:
        yield running


@pytest.fixture(scope="module")
def client(shards: RedisClusterServers, worker: WorkerProcess) -> Iterator[RedisCluster]:
    """The reader is on every shard and the answering function is registered; no article yet."""
    assert load.main(["--model", "models/reader", "--nodes", shards.addresses]) == 0
    with shards.client() as made:
        source = (REPO / "gears" / "qa.py").read_text()
        assert made.execute_command("RG.PYEXECUTE", source, target_nodes=made.get_primaries()[0]) == b"OK"
        yield made


@pytest.fixture(scope="module")
def service(shards: RedisClusterServers, client: RedisCluster) -> Iterator[ApiProcess]:
    env = {"KEYMISS_API_READY_CACHE_S": "0", "KEYMISS_API_MIN_SCORE": "0"}
    with ApiProcess(shards.addresses, wait_indexed=3, env=env) as running:
        yield running


def all_answer(service: ApiProcess) -> Answers | None:
    reply = service.ask()
    return reply if reply.coverage.sentences.answered == ALL else None


def probes_left(client: RedisCluster) -> list[bytes]:
    return client.keys("bert*ready*", target_nodes=RedisCluster.PRIMARIES) + client.keys(
        "keymiss:ready*", target_nodes=RedisCluster.PRIMARIES
    )


def model_calls(client: RedisCluster) -> list[int]:
    calls = []
    for tag in shard_tags(3):
        flat = client.execute_command("AI.INFO", keys.model_key(tag))
        calls.append(int(dict(zip(flat[::2], flat[1::2], strict=True))[b"calls"]))
    return calls


def test_1_without_sentences_the_models_run_but_it_is_not_ready(
    service: ApiProcess, client: RedisCluster
) -> None:
    before = model_calls(client)
    with pytest.raises(Unavailable) as raised:
        service.ready()
    members = raised.value.members
    assert members["missing"] == ["no sentences are loaded"]
    assert sorted(members["shards"]) == sorted(shard_tags(3))  # type: ignore[arg-type]
    assert [now - then for now, then in zip(model_calls(client), before, strict=True)] == [1, 1, 1]
    assert probes_left(client) == []


def test_1_both_halves_of_a_split_reader_run_too(
    service: ApiProcess,
    client: RedisCluster,
    shards: RedisClusterServers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path / "var"))
    try:
        assert load.main(["--model", str(split_folder(tmp_path)), "--nodes", shards.addresses]) == 0
        with pytest.raises(Unavailable) as raised:
            service.ready()
    finally:
        monkeypatch.undo()
        assert load.main(["--model", "models/reader", "--nodes", shards.addresses]) == 0
    assert raised.value.members["missing"] == ["no sentences are loaded"]
    assert probes_left(client) == []


def test_2_new_sentences_are_answered_from_soon(service: ApiProcess, shards: RedisClusterServers) -> None:
    fill(shards, question=None)
    reply = wait_until(lambda: all_answer(service), 10, "answers from every shard")
    assert reply is not None
    assert reply.coverage.sentences.answered == reply.coverage.sentences.asked == ALL
    assert sorted(reply.coverage.shards.answered) == sorted(shard_tags(3))
    best = reply.results[0]
    assert "children" in best.answer
    assert best.answer in best.sentence
    assert reply.score == best.score


def test_3_ready_runs_the_model_on_every_shard_every_time(service: ApiProcess, client: RedisCluster) -> None:
    for _ in range(2):
        before = model_calls(client)
        assert sorted(service.ready().shards) == sorted(shard_tags(3))
        assert [now - then for now, then in zip(model_calls(client), before, strict=True)] == [1, 1, 1]
    assert probes_left(client) == []


def test_4_many_at_once_cost_one_model_call_a_sentence(service: ApiProcess, client: RedisCluster) -> None:
    before = sum(model_calls(client))
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: service.ask("How long until the viral load falls"), range(20)))
    answers = [[(r.answer, r.score) for r in reply.results] for reply in replies]
    assert answers[0]
    assert all(answer == answers[0] for answer in answers)
    assert sum(model_calls(client)) - before == replies[0].coverage.sentences.asked


def test_5_it_says_what_was_cached(service: ApiProcess, client: RedisCluster) -> None:
    for cached in (False, True):
        before = sum(model_calls(client))
        results = service.ask("How soon does the viral load fall").results
        assert results
        assert {source.cached for result in results for source in result.sources} == {cached}
        assert (sum(model_calls(client)) == before) is cached


def test_5_a_question_may_hold_anything(service: ApiProcess) -> None:
    for question in (
        "viral_load _ {x} falls",
        "viral }{ \u00fc\U0001f9a0",
        "viral \x01",
        "v" * 505 + " viral",
    ):
        assert service.ask(question).coverage.sentences.failed == 0


def test_6_a_failover_is_followed(
    service: ApiProcess, shards: RedisClusterServers, client: RedisCluster
) -> None:
    shards.masters[0].kill()
    wait_until(lambda: all_answer(service), 30, "all answer")
    wait_until(service.ready, 30, "ready again")


def test_7_without_a_worker_it_says_so(service: ApiProcess, worker: WorkerProcess) -> None:
    worker.terminate()
    assert service.missing() == [f"shard {{{tag}}}: no worker is attached" for tag in shard_tags(3)]
    with pytest.raises(Unavailable):
        service.ask("Which viral load is never asked about")
    assert service.ask(QUESTION).found  # cached answers need no worker
