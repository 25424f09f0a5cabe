"""Vectors and links that could not be used for a question are named in its reply, counted and logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.api_shapes.questions import Answers, Coverage, Reason, Signal, UnusedSignal
from keymiss.client import Late
from keymiss.corpus.concept_table import Concept, ConceptTable
from keymiss.graph.cluster_writer import ClusterGraph
from keymiss.graph.events import ADD, EdgeEvent
from keymiss.keys import (
    concept_table_key,
    graph_years_key,
    question_vector_key,
    sentence_id,
    sentence_key,
    vectors_key,
)
from keymiss.reading.stored_vector import DIMENSIONS, Vector, question_to_bytes, to_field
from tests.api.processes import (
    QUESTION,
    SENTENCES,
    ApiProcess,
    article_with_title_on,
    fill,
    pause,
    resume,
    shard_tags,
)
from tests.api.scraping import Scraped, lines, scrape
from tests.hand_worker import Asker, HandWorker, register_miss, wait_for
from tests.servers import RedisClusterServers, wait_until

MASTERS = 2
TAGS = shard_tags(MASTERS)
ENCODER, OTHER = b"encoder1", b"encoder2"
COUNTER = "keymiss_question_signals_unused_total"
TABLE = ConceptTable([Concept("T1", "viral transmission", ()), Concept("T2", "adults", ())])
SENTENCES_AWAY = {"asked": MASTERS * len(SENTENCES), "answered": len(SENTENCES), "failed": 0, "unread": 0}


def axis(number: int) -> Vector:
    return np.eye(DIMENSIONS, dtype=np.float32)[number]


@pytest.fixture(scope="module")
def shards() -> Iterator[RedisClusterServers]:
    """Sentences with vectors, a concept table and links; QUESTION's answers and vector are there."""
    servers = RedisClusterServers("--cluster-require-full-coverage", "no", masters=MASTERS)
    with servers:
        articles = fill(servers)
        with servers.client() as client:
            for tag, article in articles.items():
                put_vectors(client, article, tag)
                client.hset(concept_table_key(tag), mapping={"sha256": TABLE.digest, "csv": TABLE.csv_text})
                put_question_vector(client, tag)
        for master, tag in zip(servers.masters, TAGS, strict=True):
            with master.client() as client:
                event = EdgeEvent(ADD, "T1", "T2", sentence_id(articles[tag], tag, 0), 1.0, 2020)
                ClusterGraph(client.execute_command, tag).apply([event])
                client.config_set("keymiss.noworker-grace-ms", 0)
        yield servers


def put_vectors(client: redis.Redis | Any, article: str, tag: str) -> None:
    texts = {key.decode(): text.decode() for key, text in client.hgetall(sentence_key(article, tag)).items()}
    fields = {idx: to_field(text, axis(int(idx)), ENCODER) for idx, text in texts.items()}
    client.hset(vectors_key(article, tag), mapping=fields)


def put_question_vector(client: redis.Redis | Any, tag: str, encoder: bytes = ENCODER) -> None:
    value = question_to_bytes(axis(0), encoder)
    client.set(question_vector_key(tag, question_in_key(QUESTION)), value)


@pytest.fixture(scope="module")
def api(shards: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {"KEYMISS_API_TIME_LIMIT_S": "3", "KEYMISS_API_TOPOLOGY_POLL_S": "0.2"}
    with ApiProcess(shards.addresses, wait_indexed=MASTERS, env=env) as running:
        wait_until(lambda: unused(running) == [], 20, "everything is read")
        yield running


def unused(api: ApiProcess) -> list[UnusedSignal]:
    return list(api.ask().coverage.unused)


def without(signal: Signal, reason: Reason, *missing: str) -> UnusedSignal:
    return UnusedSignal(signal=signal, reason=reason, missing=missing)


@pytest.fixture
def grown(api: ApiProcess) -> Callable[[], Scraped]:
    before = scrape(api.url)
    return lambda: scrape(api.url).since(before)


def counted(scraped: Scraped) -> dict[tuple[str, str], float]:
    """By signal and reason; those that there were."""
    found = ((dict(at), value) for at, value in scraped.by(COUNTER).items() if value)
    return {(labels["signal"], labels["reason"]): value for labels, value in found}


def found_by(reply: Answers) -> set[str]:
    return {signal for result in reply.results for signal in result.found_by}


def test_everything_is_used(api: ApiProcess, grown: Callable[[], Scraped]) -> None:
    reply = api.ask()
    assert reply.coverage.unused == ()
    assert found_by(reply) == {"bm25", "vectors", "graph"}
    assert [each.id for each in reply.concepts] == ["T1", "T2"]
    assert [each.rank for each in reply.links] == [MASTERS]
    assert counted(grown()) == {}
    assert lines(api, "question")[-1]["unused"] == []
    assert {(dict(at)["signal"], dict(at)["reason"]) for at in scrape(api.url).by(COUNTER)} == {
        *(("vectors", reason) for reason in ("late", "busy", "failed", "incomplete")),
        *(("links", reason) for reason in ("late", "failed")),
    }


@pytest.fixture
def no_vector(shards: RedisClusterServers) -> Iterator[None]:
    """The question's vector is not there yet."""
    with shards.client() as client:
        for tag in TAGS:
            client.delete(question_vector_key(tag, question_in_key(QUESTION)))
        yield
        for tag in TAGS:
            put_question_vector(client, tag)


def assert_no_vector(api: ApiProcess, scraped: Callable[[], Scraped], reason: str) -> None:
    """Of one question: the reply, the counter and the log say so; the rest is used."""
    reply = api.ask()
    (only,) = reply.coverage.unused
    assert (only.signal, only.reason) == ("vectors", reason)
    assert len(only.missing) == 1
    assert set(only.missing) <= set(TAGS)
    assert reply.found is True
    assert found_by(reply) == {"bm25", "graph"}
    assert counted(scraped()) == {("vectors", reason): 1}
    assert lines(api, "question")[-1]["unused"] == [only.model_dump(mode="json")]


@pytest.mark.usefixtures("no_vector")
def test_no_function_makes_the_vector(api: ApiProcess, grown: Callable[[], Scraped]) -> None:
    assert_no_vector(api, grown, "failed")


@pytest.fixture
def registered(shards: RedisClusterServers) -> Iterator[None]:
    """A function for vectors, by whose name a worker of the test's own hand gets jobs. It stays."""
    for master in shards.masters:
        with master.client() as client:
            register_miss(client, "bertvec")
    yield
    for master in shards.masters:
        with master.client() as client:
            client.config_set("keymiss.queue-limit", 10_000)


@pytest.mark.usefixtures("no_vector", "registered")
def test_no_worker_is_there(api: ApiProcess, grown: Callable[[], Scraped]) -> None:
    assert_no_vector(api, grown, "failed")


@pytest.mark.usefixtures("no_vector", "registered")
def test_the_worker_is_late(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    workers = [HandWorker(master) for master in shards.masters]
    try:
        assert_no_vector(api, grown, "late")
    finally:
        for worker in workers:
            worker.die()


@pytest.mark.usefixtures("no_vector", "registered")
def test_the_queue_is_full(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    workers = [HandWorker(master) for master in shards.masters]
    waiting = []
    for master, tag in zip(shards.masters, TAGS, strict=True):
        with master.client() as client:
            client.config_set("keymiss.queue-limit", 1)
        waiting.append(Asker(master, "GET", question_vector_key(tag, "another")))
        wait_for(master, "jobs_queued", 1)
    try:
        assert_no_vector(api, grown, "busy")
    finally:
        for worker, one in zip(workers, waiting, strict=True):
            for job in worker.pull():
                worker.fail(job, "enough")
            one.result()
            worker.die()


def test_a_sentence_without_a_vector(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    with shards.client() as client:
        key = vectors_key(article_with_title_on(TAGS[1], MASTERS), TAGS[1])
        kept = client.hget(key, "2")
        client.hdel(key, "2")
        expected = [without(Signal.VECTORS, Reason.INCOMPLETE, TAGS[1])]
        try:
            wait_until(lambda: unused(api) == expected, 10, "the shard is named")
            assert found_by(api.ask()) == {"bm25", "vectors", "graph"}
            assert counted(grown())["vectors", "incomplete"] >= 2
        finally:
            client.hset(key, "2", kept)
        wait_until(lambda: unused(api) == [], 10, "it is whole again")


def test_vectors_of_another_encoder_than_the_question_s(api: ApiProcess, shards: RedisClusterServers) -> None:
    """As while an encoder is replaced."""
    with shards.client() as client:
        try:
            for tag in TAGS:
                put_question_vector(client, tag, OTHER)
            expected = [without(Signal.VECTORS, Reason.INCOMPLETE, *TAGS)]
            wait_until(lambda: unused(api) == expected, 10, "every shard is named")
            assert found_by(api.ask()) == {"bm25", "graph"}
        finally:
            for tag in TAGS:
                put_question_vector(client, tag)
        wait_until(lambda: unused(api) == [], 10, "it is whole again")


def test_links_of_a_shard_that_cannot_be_read(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    key = graph_years_key(TAGS[0], "T1", "T2")
    with shards.client() as client:
        kept = client.dump(key)
        client.delete(key)
        client.set(key, "no hash")
        try:
            reply = api.ask()
        finally:
            client.restore(key, 0, kept, replace=True)
    assert reply.coverage.unused == (without(Signal.LINKS, Reason.FAILED, TAGS[0]),)
    assert [each.rank for each in reply.links] == [1], "the other shard's"
    assert found_by(reply) == {"bm25", "vectors", "graph"}
    assert counted(grown()) == {("links", "failed"): 1}


def change_links(shards: RedisClusterServers, score: float) -> None:
    """On the first shard: what was read of the links before must be read again."""
    with shards.masters[0].client() as client:
        sentence = sentence_id(article_with_title_on(TAGS[0], MASTERS), TAGS[0], 0)
        event = EdgeEvent(ADD, "T1", "T2", sentence, score, 2020)
        ClusterGraph(client.execute_command, TAGS[0]).apply([event])


def ask_without_the_second(api: ApiProcess, shards: RedisClusterServers) -> Answers:
    """The reply while the second master stands still."""
    pause(shards.masters[1])
    try:
        return api.ask()
    finally:
        resume(shards.masters[1])
        shards.wait_ok()


def test_a_stopped_shard_s_links_that_were_read_are_used_while_no_link_changes(
    api: ApiProcess, shards: RedisClusterServers
) -> None:
    api.ask()
    reply = ask_without_the_second(api, shards)
    assert [each.rank for each in reply.links] == [MASTERS]
    assert reply.coverage.sentences.model_dump() == SENTENCES_AWAY | {"late": len(SENTENCES)}
    assert Signal.LINKS not in {each.signal for each in reply.coverage.unused}
    wait_until(lambda: unused(api) == [], 20, "all is used again")


def test_a_stopped_shard_s_links_are_late_and_the_others_are_used(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    change_links(shards, 0.5)
    reply = ask_without_the_second(api, shards)
    assert without(Signal.LINKS, Reason.LATE, TAGS[1]) in reply.coverage.unused
    assert [each.rank for each in reply.links] == [1]
    assert "graph" in found_by(reply)
    assert reply.coverage.sentences.model_dump() == SENTENCES_AWAY | {"late": len(SENTENCES)}
    assert counted(grown())["links", "late"] == 1
    wait_until(lambda: unused(api) == [], 20, "all is used again")


def test_when_no_shard_answers_the_problem_names_it_too(api: ApiProcess, shards: RedisClusterServers) -> None:
    change_links(shards, 1.0)
    for master in shards.masters:
        pause(master)
    try:
        with pytest.raises(Late) as raised:
            api.ask()
    finally:
        for master in shards.masters:
            resume(master)
    shards.wait_ok()
    covered = Coverage.model_validate(raised.value.members["coverage"])
    named = {(each.signal, each.reason) for each in covered.unused}
    assert named == {("vectors", "late"), ("links", "late")}
    wait_until(lambda: unused(api) == [], 20, "all is used again")


def test_nothing_found_says_it_in_words(shards: RedisClusterServers) -> None:
    env = {"KEYMISS_API_MIN_SCORE": "1", "KEYMISS_API_GRAPH_WEIGHT": "0"}
    with shards.client() as client, ApiProcess(shards.addresses, wait_indexed=MASTERS, env=env) as strict:
        wait_until(lambda: unused(strict) == [], 20, "everything is read")
        message = strict.ask().message
        assert message is not None
        assert "Not all could be used" not in message
        for tag in TAGS:
            client.delete(question_vector_key(tag, question_in_key(QUESTION)))
        try:
            message = strict.ask().message
        finally:
            for tag in TAGS:
                put_question_vector(client, tag)
    assert message is not None
    assert "Not all could be used: vectors (failed: " in message


def test_signals_of_weight_0_are_not_missed(shards: RedisClusterServers) -> None:
    env = {"KEYMISS_API_VECTOR_WEIGHT": "0", "KEYMISS_API_GRAPH_WEIGHT": "0"}
    with shards.client() as client, ApiProcess(shards.addresses, wait_indexed=MASTERS, env=env) as words:
        for tag in TAGS:
            client.delete(question_vector_key(tag, question_in_key(QUESTION)))
        wait_until(lambda: unused(words) == [], 20, "the concept table is read")


def test_a_concept_table_that_cannot_be_read() -> None:
    """Nobody knows which concepts a question names then; where there is no table, it names none."""
    with RedisClusterServers(masters=1) as servers, servers.client() as client:
        fill(servers)
        (tag,) = shard_tags(1)
        with ApiProcess(servers.addresses, wait_indexed=1, env={"KEYMISS_API_TOPOLOGY_POLL_S": "0.2"}) as api:

            def links() -> list[UnusedSignal]:
                return [each for each in unused(api) if each.signal is Signal.LINKS]

            wait_until(lambda: links() == [], 10, "there is no table")
            client.hset(concept_table_key(tag), mapping={"sha256": "x", "csv": "no table at all"})
            wait_until(lambda: links() == [without(Signal.LINKS, Reason.FAILED)], 10, "it is named")
