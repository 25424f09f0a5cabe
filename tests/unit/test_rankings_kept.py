"""A question that comes again is not ranked again while no index has changed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keymiss.reading.stored_vector import DIMENSIONS, Encoded
from keymiss.retrieval import CorpusFilter, across_shards
from keymiss.retrieval.across_shards import Retrieval
from keymiss.retrieval.index import ShardIndex

KEY = b"sentence:%s:{1bz}"


class Ranked:
    """A retrieval over two indexes, and how often it ranked."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.indexes = {"a": ShardIndex(), "b": ShardIndex()}
        self.times = 0
        self.meanwhile = lambda: None
        self._rank = across_shards.rank
        patch.setattr(across_shards, "rank", self._counted)
        self.retrieval = Retrieval()
        ready = asyncio.Event()
        ready.set()
        followers: dict[str, Any] = {
            tag: SimpleNamespace(index=index, ready=ready, address=tag) for tag, index in self.indexes.items()
        }
        self.retrieval._followers = followers

    def _counted(self, *arguments: Any) -> Any:
        self.times += 1
        found = self._rank(*arguments)
        self.meanwhile()
        return found

    def put(self, tag: str, article: bytes, text: bytes, year: int = 2020) -> None:
        self.indexes[tag].put(KEY % article, {b"0": text}, year=year)
        self.indexes[tag].commit()

    def found(self, question: str = "virus", **wanted: Any) -> set[str]:
        found = asyncio.run(self.retrieval.candidates(question, 5, **wanted))
        return {each.sentence for some in found.values() for each in some}


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> Ranked:
    made = Ranked(monkeypatch)
    made.put("a", b"A", b"A virus lives.")
    return made


def test_as_long_as_nothing_changes(ranked: Ranked) -> None:
    assert [ranked.found() for _ in range(3)] == [{"A virus lives."}] * 3
    assert ranked.times == 1


def test_what_comes_and_goes_is_seen_at_once(ranked: Ranked) -> None:
    ranked.found()
    ranked.put("b", b"B", b"Another virus.")
    assert ranked.found() == {"A virus lives.", "Another virus."}
    ranked.put("b", b"B", b"The other virus.")
    assert ranked.found() == {"A virus lives.", "The other virus."}
    ranked.indexes["a"].drop(KEY % b"A")
    assert ranked.found() == {"The other virus."}
    assert ranked.times == 4


def test_a_vector_that_comes(ranked: Ranked) -> None:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[0] = 1
    question = Encoded(b"encoder", vector)
    ranked.found(vector=question)
    assert ranked.found(vector=Encoded(b"another", vector)) == {"A virus lives."}
    ranked.found(vector=question)
    assert ranked.times == 2


def test_what_is_wanted_is_part_of_it(ranked: Ranked) -> None:
    ranked.put("b", b"B", b"Another virus.", year=1999)
    everything = {"A virus lives.", "Another virus."}
    for _ in range(2):
        assert ranked.found() == everything
        assert ranked.found(only=CorpusFilter(first_year=2020)) == {"A virus lives."}
        assert ranked.found(linked={"B:{1bz}:0": 1.0}) == everything
        assert ranked.found(limit=1) < everything
        assert ranked.found(without=["a"]) == {"Another virus."}
        assert ranked.found("lives") == {"A virus lives."}
    assert ranked.times == 6


def test_one_that_saw_a_change_half_is_not_kept(ranked: Ranked) -> None:
    ranked.meanwhile = lambda: ranked.put("b", b"B", b"Another virus.") if ranked.times == 1 else None
    assert ranked.found() == {"A virus lives."}
    assert ranked.found() == {"A virus lives.", "Another virus."}
    ranked.found()
    assert ranked.times == 2


def test_the_last_ones_are_kept(ranked: Ranked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across_shards, "RANKINGS_KEPT", 2)
    for question in ("virus", "a virus", "virus", "lives", "virus", "a virus"):
        ranked.found(question)
    assert ranked.times == 4
    assert len(ranked.retrieval._rankings) == 2


def test_of_very_many_linked_sentences_nothing_is_kept(ranked: Ranked) -> None:
    many = {f"M{number}:{{1bz}}:0": 1.0 for number in range(across_shards.LINKED_KEPT + 1)}
    assert [ranked.found(linked=many) for _ in range(2)] == [{"A virus lives."}] * 2
    assert (ranked.times, ranked.retrieval._rankings) == (2, {})
    few = dict(list(many.items())[1:])
    assert [ranked.found(linked=few) for _ in range(2)] == [{"A virus lives."}] * 2
    assert [ranked.found() for _ in range(2)] == [{"A virus lives."}] * 2
    assert ranked.times == 4
