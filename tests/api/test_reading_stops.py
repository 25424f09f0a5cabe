"""The best candidates are read first; the others only if none of these gives a sure answer, and none that
lies far behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.api_shapes.questions import Answers
from keymiss.keys import sentence_key, span_key
from tests.api.processes import (
    SILENT_FOR_LONG,
    ApiProcess,
    article_with_title_on,
    pause,
    resume,
    shard_tags,
)
from tests.api.scraping import scrape
from tests.patience import slower
from tests.servers import RedisClusterServers, wait_until

QUESTION = "Which birds breed on Cold Top"
FIRST = 2
SENTENCES = (
    "Larks breed on Cold Top, birds of the moor.",
    "The birds which breed on Cold Top are larks.",
    "Some birds breed on hills.",
    "Cold Top is a hill.",
    "A hill of that name is elsewhere too.",
)
MASTERS = 2
ALL = MASTERS * len(SENTENCES)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(*SILENT_FOR_LONG, masters=MASTERS) as servers:
        yield servers


@pytest.fixture(scope="module")
def api(cluster: RedisClusterServers) -> Iterator[ApiProcess]:
    answer(cluster, {})
    env = {
        "KEYMISS_API_FIRST_CANDIDATES": str(FIRST),
        "KEYMISS_API_SURE_SCORE": "0.8",
        "KEYMISS_API_MAX_BEHIND": "100",
        "KEYMISS_API_MIN_SCORE": "0.001",
        "KEYMISS_API_TIME_LIMIT_S": str(slower(2)),
    }
    with ApiProcess(cluster.addresses, wait_indexed=MASTERS, env=env) as running:
        yield running


def answer(cluster: RedisClusterServers, scores: dict[str, float]) -> None:
    """What the reader says of each sentence, by its first word; 0.01 of all others."""
    with cluster.client() as client:
        for tag in shard_tags(MASTERS):
            article = article_with_title_on(tag, MASTERS)
            texts = {str(idx): f"{text[:-1]} ({tag})." for idx, text in enumerate(SENTENCES)}
            client.hset(sentence_key(article, tag), mapping=texts)
            for idx, text in texts.items():
                word = text.split()[0]
                value = {"answer": f"{word} {idx} of {tag}", "score": scores.get(word, 0.01)}
                client.set(span_key(article, tag, idx, question_in_key(QUESTION)), json.dumps(value))


def ask(api: ApiProcess, *, exhaustive: bool = False, min_score: float | None = None) -> Answers:
    with api.client() as client:
        return client.ask(QUESTION, exhaustive=exhaustive, min_score=min_score)


def test_a_sure_answer_ends_it(cluster: RedisClusterServers, api: ApiProcess) -> None:
    answer(cluster, {"The": 0.99, "Larks": 0.9})
    every = ask(api, exhaustive=True)
    assert (every.coverage.sentences.answered, every.coverage.sentences.unread) == (ALL, 0)
    before = scrape(api.url).value("keymiss_sentences_unread_total")
    reply = ask(api)
    read = reply.coverage.sentences
    assert (read.asked, read.answered, read.unread) == (FIRST, FIRST, ALL - FIRST)
    assert reply.found
    assert reply.message is None
    assert reply.results[0].model_dump(exclude={"took_ms": True, "sources": {"__all__": {"took_ms"}}}) == (
        every.results[0].model_dump(exclude={"took_ms": True, "sources": {"__all__": {"took_ms"}}})
    )
    assert reply.total == FIRST
    answers = {source.sentencekey for result in reply.results for source in result.sources}
    assert answers.isdisjoint(passage.sentencekey for passage in reply.closest)
    assert len(reply.closest) == 5, "what was not read is still close"
    assert scrape(api.url).value("keymiss_sentences_unread_total") == before + ALL - FIRST


def test_without_one_all_are_read(cluster: RedisClusterServers, api: ApiProcess) -> None:
    answer(cluster, {"Some": 0.999})
    reply = ask(api)
    assert (reply.coverage.sentences.answered, reply.coverage.sentences.unread) == (ALL, 0)
    assert reply.results[0].answer.startswith("Some")
    assert {result.shard for result in reply.results} == set(shard_tags(MASTERS))


def test_a_threshold_above_it_holds(cluster: RedisClusterServers, api: ApiProcess) -> None:
    answer(cluster, {"The": 0.99, "Larks": 0.9})
    best = ask(api).results[0].score
    reply = ask(api, min_score=min(1.0, best + 1e-4))
    assert reply.coverage.sentences.unread == 0


def test_who_wants_all_however_unsure_gets_all(cluster: RedisClusterServers, api: ApiProcess) -> None:
    answer(cluster, {"The": 0.99, "Larks": 0.9})
    reply = ask(api, min_score=0)
    assert (reply.coverage.sentences.answered, reply.total) == (ALL, ALL)


def test_one_that_fails_is_no_reason_to_stop(cluster: RedisClusterServers, api: ApiProcess) -> None:
    answer(cluster, {"The": 0.99, "Larks": 0.9})
    first = ask(api).results
    with cluster.client() as client:
        _, article, tag, idx = first[-1].sentencekey.split(":")
        client.delete(span_key(article, tag.strip("{}"), idx, question_in_key(QUESTION)))
    read = ask(api).coverage.sentences
    assert (read.answered, read.failed, read.unread) == (ALL - 1, 1, 0)


def test_a_shard_that_says_nothing_does_not_keep_the_others_waiting(
    cluster: RedisClusterServers, api: ApiProcess
) -> None:
    """Whose sentences are among the first: those of the other shard are read while it is waited for."""
    answer(cluster, {"The": 0.99, "Larks": 0.9})
    first = {each.shard for each in ask(api).results}
    assert first == set(shard_tags(MASTERS)), "one of each"
    pause(cluster.masters[1])
    try:
        read = ask(api).coverage
    finally:
        resume(cluster.masters[1])
    each = len(SENTENCES)
    assert (read.sentences.answered, read.sentences.late, read.sentences.failed) == (each, each, 0)
    cluster.wait_ok()
    wait_until(lambda: ask(api, exhaustive=True).coverage.sentences.answered == ALL, 15, "all answer again")


def test_those_far_behind_are_not_read(cluster: RedisClusterServers) -> None:
    answer(cluster, {})
    tag = shard_tags(MASTERS)[0]
    far = sentence_key("elsewhere", tag)
    env = {
        "KEYMISS_API_FIRST_CANDIDATES": "1",
        "KEYMISS_API_MAX_BEHIND": "2",
        "KEYMISS_API_SURE_SCORE": "0.8",
    }
    with cluster.client() as client:
        client.hset(far, mapping={"0": "Gulls are birds, too."})
        client.set(
            span_key("elsewhere", tag, "0", question_in_key(QUESTION)), '{"answer": "Gulls", "score": 0.9}'
        )
        try:
            with ApiProcess(cluster.addresses, wait_indexed=MASTERS, env=env) as api:
                reply = ask(api)
                assert (reply.coverage.sentences.answered, reply.coverage.sentences.unread) == (ALL, 1)
                assert reply.message is not None
                assert " 1 more sentence lies far behind and was not read" in reply.message
                for every in (ask(api, exhaustive=True), ask(api, min_score=0)):
                    assert (every.coverage.sentences.answered, every.coverage.sentences.unread) == (
                        ALL + 1,
                        0,
                    )
        finally:
            client.delete(far)
