"""A part of the corpus is searched: some years, some articles; by words, vectors and links alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from keymiss.addresses import Address
from keymiss.keys import sentence_key, state_key, vectors_key
from keymiss.reading.stored_vector import DIMENSIONS, Encoded, to_field
from keymiss.retrieval import WHOLE_CORPUS, CorpusFilter, Retrieval
from tests.patience import eventually
from tests.servers import RedisServer

YEARS = {"A": "2019", "B": "2020", "C": "2021", "D": ""}
MANY = 200
"""Sentences about viruses of 2018: more than the pool, and all of them better by words and vectors."""
ENCODER = b"encoder1"
BETTER = "Virus virus virus virus."


def sentence(article: str) -> str:
    return f"Article {article} has a long sentence with one virus among many other words."


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisServer]:
    near, nearer = np.zeros((2, DIMENSIONS), np.float32)
    near[:2], nearer[0] = (0.6, 0.8), 1.0
    with RedisServer(module=False) as server, server.client() as db:
        for article, year in YEARS.items():
            db.hset(sentence_key(article, "x"), "0", sentence(article))
            db.hset(vectors_key(article, "x"), "0", to_field(sentence(article), near, ENCODER))
            db.hset(state_key(article, "x"), mapping={"year": year, "language": "en"})
        for number in range(MANY):
            db.hset(sentence_key(f"M{number}", "x"), "0", BETTER)
            db.hset(vectors_key(f"M{number}", "x"), "0", to_field(BETTER, nearer, ENCODER))
            db.hset(state_key(f"M{number}", "x"), "year", "2018")
        yield server


@pytest.fixture
async def retrieval(plain: RedisServer) -> AsyncIterator[Retrieval]:
    started = Retrieval()
    await started.follow({"x": Address("127.0.0.1", plain.port)})
    await eventually(lambda: started.sentences() == {"x": len(YEARS) + MANY})
    yield started
    await started.stop()


LINKED = {f"{article}:{{x}}:0": 1.0 for article in YEARS}
VECTOR = Encoded(ENCODER, np.eye(DIMENSIONS, dtype=np.float32)[0])


async def by_words(retrieval: Retrieval, only: CorpusFilter) -> set[str]:
    return {one.article for one in (await retrieval.candidates("virus", 300, only=only))["x"]}


async def by_vector(retrieval: Retrieval, only: CorpusFilter) -> set[str]:
    return {one.article for one in (await retrieval.candidates("nothing", 300, VECTOR, only=only))["x"]}


async def by_links(retrieval: Retrieval, only: CorpusFilter) -> set[str]:
    found = (await retrieval.candidates("nothing", 300, linked=LINKED, only=only))["x"]
    return {one.article for one in found}


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (CorpusFilter(2019, 2020), "AB"),
        (CorpusFilter(first_year=2020), "BC"),
        (CorpusFilter(2021, 2021), "C"),
        (CorpusFilter(articles=frozenset("DAX")), "AD"),
        (CorpusFilter(2020, None, frozenset("AB")), "B"),
        (CorpusFilter(2030, None), ""),
        (CorpusFilter(articles=frozenset("X")), ""),
    ],
)
async def test_every_signal_gives_its_best_of_what_is_searched(
    retrieval: Retrieval, only: CorpusFilter, expected: str
) -> None:
    """Though 200 sentences of other articles are better than all of them."""
    for found in (by_words, by_vector, by_links):
        assert await found(retrieval, only) == set(expected), found.__name__
    assert await retrieval.takes_any(only) is bool(expected)


async def test_without_a_filter_all_is_searched(retrieval: Retrieval) -> None:
    assert not await by_words(retrieval, WHOLE_CORPUS) & set(YEARS)
    assert await by_links(retrieval, WHOLE_CORPUS) == set(YEARS)
    assert len(await by_words(retrieval, CorpusFilter(None, 2018))) == 100


async def test_scores_are_the_same_within_a_filter(retrieval: Retrieval) -> None:
    (alone,) = (await retrieval.candidates("long sentence", 1, VECTOR, only=CorpusFilter(2019, 2019)))["x"]
    whole = (await retrieval.candidates("long sentence", 300, VECTOR))["x"]
    (same,) = (one for one in whole if one.article == "A")
    assert (alone.bm25, alone.cosine) == (pytest.approx(same.bm25), pytest.approx(same.cosine, abs=2e-3))


async def test_a_year_that_changes(retrieval: Retrieval, plain: RedisServer) -> None:
    index = retrieval.indexes()["x"]
    with plain.client() as db:
        db.hset(state_key("D", "x"), "year", "2030")
        await eventually(lambda: len(index.within(CorpusFilter(2030))) == 1)
        await eventually(lambda: not index.changed)
        assert await by_words(retrieval, CorpusFilter(2030)) == {"D"}
        db.delete(state_key("D", "x"))
        await eventually(lambda: not index.within(CorpusFilter(2030)))
