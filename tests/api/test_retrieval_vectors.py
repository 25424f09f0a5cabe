"""Candidates by their vectors and by links, from real servers' hashes; all shards ranked together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
import redis

from keymiss.addresses import Address
from keymiss.api.questions.question_vector import QuestionVectors
from keymiss.api.settings import ApiSettings
from keymiss.api.unused import Reason, Signal, Unused
from keymiss.cluster.shard_map import ShardMap
from keymiss.keys import question_vector_key, sentence_key, vectors_key
from keymiss.reading.stored_vector import DIMENSIONS, Encoded, Vector, question_to_bytes, to_field
from keymiss.retrieval import Mix, Retrieval
from keymiss.retrieval.follow import HASHES_AT_ONCE, ShardFollower
from tests.api.processes import pause, resume, shard_tags
from tests.patience import eventually
from tests.servers import RedisClusterServers, RedisServer

ENCODER, OTHER = b"encoder1", b"encoder2"
ARTICLES = {
    "A": ["Viruses spread by droplets.", "Masks reduce spreading."],
    "B": ["PCR detects viral RNA in a swab."],
}


def axis(number: int) -> Vector:
    """A unit vector; no two have anything in common."""
    return np.eye(DIMENSIONS, dtype=np.float32)[number]


AXES = {"Viruses spread by droplets.": 0, "Masks reduce spreading.": 1, "PCR detects viral RNA in a swab.": 2}


def encoded(number: int, encoder: bytes = ENCODER) -> Encoded:
    """As a question's."""
    return Encoded(encoder, axis(number))


def write(db: redis.Redis, article: str, tag: str, sentences: list[str], encoder: bytes = ENCODER) -> None:
    db.hset(sentence_key(article, tag), mapping={str(i): text for i, text in enumerate(sentences)})
    fields = {str(i): to_field(text, axis(AXES[text]), encoder) for i, text in enumerate(sentences)}
    db.hset(vectors_key(article, tag), mapping=fields)


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisServer]:
    with RedisServer(module=False) as running:
        yield running


@pytest.fixture
def db(plain: RedisServer) -> Iterator[redis.Redis]:
    with plain.client() as client:
        client.flushall()
        for article, sentences in ARTICLES.items():
            write(client, article, "x", sentences)
        yield client


@pytest.fixture
async def retrieval(plain: RedisServer, db: redis.Redis) -> AsyncIterator[Retrieval]:
    started = Retrieval()
    await started.follow({"x": Address("127.0.0.1", plain.port)})
    await eventually(lambda: started.sentences() == {"x": 3})
    yield started
    await started.stop()


async def near(retrieval: Retrieval, vector: Encoded) -> list[tuple[str, float]]:
    """By vectors alone: no sentence has the question's word."""
    found = (await retrieval.candidates("nothing", 5, vector))["x"]
    assert all(one.found_by == ("vectors",) and one.bm25 == 0 for one in found)
    return [(one.sentencekey, one.cosine or 0.0) for one in found]


async def test_the_nearest_first_and_neighbours_after_it(retrieval: Retrieval) -> None:
    found = await near(retrieval, encoded(1))
    assert [key for key, _ in found] == ["A:{x}:1", "A:{x}:0", "B:{x}:0"]
    assert found[0][1] == pytest.approx(1 / 1.25**0.5, abs=2e-3)
    assert found[1][1] == pytest.approx(0.5 / 1.25**0.5, abs=2e-3)
    assert found[2][1] == pytest.approx(0, abs=2e-3)


async def test_words_and_vectors_together(retrieval: Retrieval) -> None:
    found = (await retrieval.candidates("droplets", 5, encoded(0)))["x"]
    assert found[0].sentencekey == "A:{x}:0"
    assert found[0].found_by == ("bm25", "vectors")
    assert found[0].bm25 > found[1].bm25 > 0
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert all(one.cosine is not None for one in found)
    words_alone = (await retrieval.candidates("droplets", 5))["x"]
    assert [(one.found_by, one.cosine) for one in words_alone] == [(("bm25",), None)] * 2


async def test_links_bring_in_a_sentence(retrieval: Retrieval) -> None:
    linked = {"B:{x}:0": 3.0, "B:{x}:7": 9.0, "none": 1.0, "B:{y}:0": 1.0}
    found = (await retrieval.candidates("droplets", 5, linked=linked))["x"]
    assert [one.sentencekey for one in found if one.found_by == ("graph",)] == ["B:{x}:0"]
    (only,) = (await retrieval.candidates("nothing", 5, linked=linked))["x"]
    assert (only.bm25, only.cosine, only.found_by) == (0, None, ("graph",))


async def test_vectors_follow_their_sentences(retrieval: Retrieval, db: redis.Redis) -> None:
    assert retrieval.vectors() == {"x": 3}
    db.hset(sentence_key("B", "x"), "0", "A swab is taken.")  # its vector is of the old sentence
    await eventually(lambda: retrieval.vectors() == {"x": 2})
    assert {key for key, _ in await near(retrieval, encoded(2))} == {"A:{x}:0", "A:{x}:1"}
    assert (await retrieval.candidates("swab", 5))["x"][0].sentence == "A swab is taken."
    db.hset(vectors_key("B", "x"), "0", to_field("A swab is taken.", axis(5), ENCODER))
    await eventually(lambda: retrieval.vectors() == {"x": 3})
    assert (await near(retrieval, encoded(5)))[0] == ("B:{x}:0", pytest.approx(1, abs=2e-3))
    db.hdel(vectors_key("A", "x"), "0")
    await eventually(lambda: retrieval.vectors() == {"x": 2})
    assert (await near(retrieval, encoded(1)))[0] == ("A:{x}:1", pytest.approx(1, abs=2e-3))
    db.delete(sentence_key("A", "x"))  # vectors of sentences that are gone count for nothing
    await eventually(lambda: retrieval.vectors() == {"x": 1})
    db.flushall()
    await eventually(lambda: retrieval.sentences() == {"x": 0})
    assert await near(retrieval, encoded(1)) == []


async def test_vectors_of_two_encoders_are_never_compared(retrieval: Retrieval, db: redis.Redis) -> None:
    """As while an encoder is replaced: each question is compared with the vectors of its own."""
    write(db, "A", "x", ARTICLES["A"], OTHER)
    await eventually(lambda: retrieval.indexes()["x"].vectors(OTHER) == 2)
    assert retrieval.indexes()["x"].vectors(ENCODER) == 1
    assert retrieval.vectors() == {"x": 3}
    assert {key for key, _ in await near(retrieval, encoded(0))} == {"B:{x}:0"}
    assert {key for key, _ in await near(retrieval, encoded(0, OTHER))} == {"A:{x}:0", "A:{x}:1"}
    assert await near(retrieval, encoded(0, b"encoder3")) == []
    (by_word,) = (await retrieval.candidates("swab", 5, encoded(0, OTHER)))["x"][:1]
    assert (by_word.sentencekey, by_word.cosine) == ("B:{x}:0", None)
    db.hset(vectors_key("A", "x"), "0", to_field(ARTICLES["A"][0], axis(0), ENCODER))  # no neighbour's counts
    await eventually(lambda: retrieval.indexes()["x"].vectors(ENCODER) == 2)
    assert (await near(retrieval, encoded(0)))[0] == ("A:{x}:0", pytest.approx(1, abs=2e-3))
    write(db, "B", "x", ARTICLES["B"], OTHER)
    write(db, "A", "x", ARTICLES["A"], OTHER)
    await eventually(lambda: retrieval.indexes()["x"].vectors(OTHER) == 3)
    assert await near(retrieval, encoded(0)) == []


async def test_broken_vectors_are_left_out(retrieval: Retrieval, db: redis.Redis) -> None:
    db.hset(vectors_key("A", "x"), mapping={"0": b"", "1": b"x" * 784, "nine": b"\xff"})
    await eventually(lambda: retrieval.vectors() == {"x": 1})
    db.set(vectors_key("B", "x"), "a string")
    await eventually(lambda: retrieval.vectors() == {"x": 0})
    assert retrieval.sentences() == {"x": 3}
    assert [one.sentencekey for one in (await retrieval.candidates("swab", 5, encoded(2)))["x"]] == [
        "B:{x}:0"
    ]


async def test_signals_of_weight_0_are_not_used(plain: RedisServer, db: redis.Redis) -> None:
    words = Retrieval(mix=Mix(vector_weight=0))
    await words.follow({"x": Address("127.0.0.1", plain.port)})
    await eventually(lambda: words.sentences() == {"x": 3})
    found = (await words.candidates("droplets", 5, encoded(2)))["x"]
    assert [one.sentencekey for one in found] == ["A:{x}:0", "A:{x}:1"]
    assert (await words.candidates("nothing", 5, encoded(2)))["x"] == []
    await words.stop()


async def test_shards_are_ranked_together() -> None:
    """A word that is rare in the whole corpus weighs the same on every shard; then come the limits."""
    with RedisServer(module=False) as one, RedisServer(module=False) as two:
        with one.client() as db:
            for number in range(30):
                db.hset(sentence_key(f"P{number}", "p"), "0", f"Bats roost in cave {number}.")
        with two.client() as db:
            db.hset(sentence_key("Q", "q"), "0", "Bats roost in the attic and under an old bridge.")
            for number in range(30):
                db.hset(sentence_key(f"R{number}", "q"), "0", f"Mice live in barn {number}.")
        both = Retrieval()
        await both.follow({"p": Address("127.0.0.1", one.port), "q": Address("127.0.0.1", two.port)})
        await eventually(lambda: both.sentences() == {"p": 30, "q": 31})
        found = await both.candidates("Where do bats roost?", 5)
        assert [len(found[tag]) for tag in ("p", "q")] == [5, 1]
        # By its own shard's statistics the longer sentence of q would be far ahead: bats are rare there.
        assert found["q"][0].bm25 < found["p"][0].bm25
        limited = await both.candidates("Where do bats roost?", 5, limit=3)
        assert [len(limited[tag]) for tag in ("p", "q")] == [3, 0]
        await both.stop()


async def test_the_question_s_vector_is_asked_from_a_shard() -> None:
    with RedisClusterServers(masters=2) as servers:
        shards = ShardMap(ApiSettings(nodes=(Address("127.0.0.1", servers.masters[0].port),)))
        vectors = QuestionVectors(shards, time_limit_s=0.5)
        assert await vectors.get("too early") == Unused(Signal.VECTORS, Reason.FAILED)
        await shards.start()
        try:
            nobody = await vectors.get("nobody makes it")
            assert isinstance(nobody, Unused)
            assert nobody.reason is Reason.FAILED
            with servers.client() as client:
                for tag in shard_tags(2):
                    client.set(question_vector_key(tag, "Is it?"), question_to_bytes(axis(3), ENCODER))
                    client.set(question_vector_key(tag, "broken"), b"1")
            found = await vectors.get("Is it?")
            assert not isinstance(found, Unused)
            assert np.array_equal(found.vector, axis(3))
            assert found.encoder == ENCODER
            broken = await vectors.get("broken")
            assert isinstance(broken, Unused)
            assert broken.reason is Reason.FAILED
            for master in servers.masters:
                pause(master)
            late = await vectors.get("Is it?")
            assert isinstance(late, Unused)
            assert late.reason is Reason.LATE
        finally:
            for master in servers.masters:
                resume(master)
            await shards.stop()


async def test_nothing_changes_an_index_that_is_followed_no_more(db: redis.Redis, plain: RedisServer) -> None:
    """Another master's follower may have it then, and an index is changed by one thread at a time."""
    for number in range(HASHES_AT_ONCE):
        texts = {str(at): f"Sentence {number} {at}." for at in range(20)}
        db.hset(sentence_key(f"M{number}", "x"), mapping=texts)
        vectors = np.random.default_rng(number).normal(size=(len(texts), DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        fields = {at: to_field(texts[at], vectors[int(at)], ENCODER) for at in texts}
        db.hset(vectors_key(f"M{number}", "x"), mapping=fields)
    follower = ShardFollower(Address("127.0.0.1", plain.port))
    follower.start()
    await eventually(lambda: follower.index.articles)
    await follower.stop()
    version = follower.index.version
    await asyncio.get_running_loop().shutdown_default_executor()  # waits for what still runs in threads
    assert follower.index.version == version
