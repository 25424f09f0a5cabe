"""Candidates from a real server's hashes, by their words: found, ranked, and kept up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from keymiss.addresses import Address
from keymiss.keys import sentence_key
from keymiss.retrieval import Retrieval, ShardIndex, parse_sentence_key
from tests.patience import eventually
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisServer]:
    """A plain server; retrieval needs nothing of the module."""
    with RedisServer(module=False) as running:
        yield running


@pytest.fixture
def db(plain: RedisServer) -> Iterator[redis.Redis]:
    with plain.client() as client:
        client.flushall()
        yield client


@pytest.fixture
async def retrieval(plain: RedisServer, db: redis.Redis) -> AsyncIterator[Retrieval]:
    db.hset(
        sentence_key("A", "x"), mapping={"0": "Viruses spread by droplets.", "1": "Masks reduce spreading."}
    )
    db.hset(sentence_key("B", "x"), mapping={"0": "PCR detects viral RNA in a swab."})
    for number in range(500):
        db.set(f"bertqa{{x}}_A:{{x}}:0_question {number}", "not a sentence")
    started = Retrieval()
    await started.follow({"x": Address("127.0.0.1", plain.port)})
    await eventually(lambda: started.sentences() == {"x": 3})
    yield started
    await started.stop()


async def found(retrieval: Retrieval, question: str, limit: int = 5) -> list[str]:
    return [c.sentencekey for c in (await retrieval.candidates(question, limit))["x"]]


async def test_stems_case_and_order(retrieval: Retrieval) -> None:
    assert await found(retrieval, "How do VIRUSES spread?") == ["A:{x}:0", "A:{x}:1"]
    assert await found(retrieval, "detection of RNA with PCR") == ["B:{x}:0"]
    best = (await retrieval.candidates("virus droplets", 1))["x"]
    assert [(c.article, c.tag, c.idx, c.sentence) for c in best] == [
        ("A", "x", "0", "Viruses spread by droplets.")
    ]
    assert best[0].bm25 > 0
    assert await found(retrieval, "nothing matching") == []
    assert await found(retrieval, "?!") == []


async def test_stop_words_count_only_when_there_is_nothing_else(retrieval: Retrieval) -> None:
    assert await found(retrieval, "by a PCR in the") == ["B:{x}:0"]
    assert await found(retrieval, "by") == ["A:{x}:0", "A:{x}:1"]  # the second has it from its neighbour


@pytest.mark.parametrize(
    "question", ['"', "(", "body:*", "a AND", "[a TO b]", "^~\\", "\x01", "key:A", "+" * 512]
)
async def test_operators_are_only_text(retrieval: Retrieval, question: str) -> None:
    assert len(await found(retrieval, f"{question} swab")) >= 1
    await found(retrieval, question)


async def test_changes_are_seen(retrieval: Retrieval, db: redis.Redis) -> None:
    db.hset(sentence_key("C", "x"), "7", "Ventilation thins out aerosols.")
    await eventually(lambda: retrieval.sentences() == {"x": 4})
    assert await found(retrieval, "aerosols") == ["C:{x}:7"]
    db.hset(sentence_key("C", "x"), "7", "Sunlight harms them.")
    index = retrieval._followers["x"].index
    await eventually(lambda: [c.sentencekey for c in index.search("sunlight", 5)] == ["C:{x}:7"])
    assert await found(retrieval, "aerosols") == []
    db.hdel(sentence_key("A", "x"), "1")
    await eventually(lambda: retrieval.sentences() == {"x": 3})
    db.delete(sentence_key("C", "x"))
    await eventually(lambda: retrieval.sentences() == {"x": 2})
    db.flushall()
    await eventually(lambda: retrieval.sentences() == {"x": 0})


async def test_many_changes_at_once(retrieval: Retrieval, db: redis.Redis) -> None:
    with db.pipeline(transaction=False) as pipe:
        for number in range(300):
            pipe.hset(
                sentence_key(f"M{number}", "x"),
                mapping={str(i): f"Sentence {i} word{number}" for i in range(5)},
            )
        pipe.execute()
    await eventually(lambda: retrieval.sentences() == {"x": 1503})
    assert len(await found(retrieval, "word299", 10)) == 5


async def test_keys_that_are_not_sentences_are_left_out(retrieval: Retrieval, db: redis.Redis) -> None:
    db.hset("sentence:no tag", "0", "odd odd")
    db.hset("sentence:under_score:{x}", "0", "odd odd")
    db.hset(b"sentence:\xff:{x}", "0", "odd odd")
    db.set(sentence_key("S", "x"), "odd string")
    db.hset(sentence_key("T", "x"), mapping={"0": b"odd \xff bytes", "1": "odd fine"})
    await eventually(lambda: retrieval.sentences() == {"x": 5})
    assert sorted(await found(retrieval, "odd")) == ["T:{x}:0", "T:{x}:1"]


async def test_a_lost_connection_is_made_again(retrieval: Retrieval, db: redis.Redis) -> None:
    db.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    db.hset(sentence_key("D", "x"), "0", "Handwashing helps.")
    await eventually(lambda: retrieval.sentences() == {"x": 4})


async def test_a_shard_that_moves_keeps_its_index(retrieval: Retrieval, db: redis.Redis) -> None:
    with RedisServer(module=False) as other:
        with other.client() as new_master:
            new_master.hset(sentence_key("A", "x"), "0", "Viruses spread by droplets.")
        await retrieval.follow({"x": Address("127.0.0.1", other.port)})
        assert retrieval.sentences() == {"x": 3}
        assert await found(retrieval, "swab") == ["B:{x}:0"]
        await eventually(lambda: retrieval.sentences() == {"x": 1})
        await retrieval.follow({})
        assert retrieval.sentences() == {}


async def test_a_shard_that_is_away_is_not_indexed() -> None:
    away = Retrieval()
    await away.follow({"x": ("127.0.0.1", 1)})
    assert away.sentences() == {"x": None}
    assert await away.candidates("anything", 5) == {}
    await away.stop()


def test_sentence_keys_are_taken_apart() -> None:
    assert parse_sentence_key(b"sentence:PMC1.xml:{6fd}") == ("PMC1.xml", "6fd")
    assert parse_sentence_key(b"sentence:a:b:{x}") == ("a:b", "x")
    for key in (
        b"sentence:",
        b"sentence:{x}",
        b"sentence::{x}",
        b"sentence:a:x",
        b"other:a:{x}",
        b"sentence:a:{x",
    ):
        assert parse_sentence_key(key) is None


def test_an_unchanged_hash_is_not_written_again() -> None:
    index = ShardIndex()
    index.put(b"sentence:A:{x}", {b"0": b"one", b"1": b"two"})
    index.commit()
    index.put(b"sentence:A:{x}", {b"1": b"two", b"0": b"one"})
    assert not index.changed
    assert index.sentences == 2
    index.put(b"sentence:A:{x}", {b"0": b"one", b"1": b"three"})
    assert index.changed
