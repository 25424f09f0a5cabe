"""What several signals say of sentences, to one ranking."""

from __future__ import annotations

import math

import pytest

from keymiss.retrieval.fuse import BM25, GRAPH, VECTORS, Mix, Said, by_links, by_vectors, by_words, fuse


def test_what_several_signals_like_comes_first() -> None:
    words, near = (
        by_words({"a": 8.0, "b": 6.0, "c": 4.0}, pool=3),
        by_vectors({"d": 0.9, "c": 0.8}, {"a": 0.2}),
    )
    fused = list(
        fuse({BM25: words, VECTORS: near, GRAPH: by_links({})}, {BM25: 1.0, VECTORS: 2.0, GRAPH: 1.0})
    )
    assert [one.item for one in fused] == ["d", "c", "a", "b"]  # d: half of a's words, as c has
    assert [one.found_by for one in fused] == [(VECTORS,), (BM25, VECTORS), (BM25,), (BM25,)]
    sums = [0.5 + 2 * 0.9, 0.5 + 2 * 0.8, 1 + 2 * 0.2, 0.75 + 2 * 0.2]
    assert [one.score for one in fused] == pytest.approx([math.exp(each - sums[0]) for each in sums])


def test_equals_stay_in_the_order_of_the_signals() -> None:
    fused = fuse({VECTORS: Said({"x": 1.0}), BM25: Said({"y": 1.0})}, {BM25: 1.0, VECTORS: 1.0})
    assert [(one.item, one.score) for one in fused] == [("y", 1.0), ("x", 1.0)]


def test_weights_count_and_none_means_left_out() -> None:
    signals = {BM25: Said({"a": 1.0, "b": 0.5}), VECTORS: Said({"b": 1.0, "a": 0.5})}
    assert [one.item for one in fuse(signals, {BM25: 1.0, VECTORS: 1.1})] == ["b", "a"]
    (first, second) = fuse(signals, {BM25: 0.0, VECTORS: 2.0})
    assert (first.item, first.score, first.found_by) == ("b", 1.0, (VECTORS,))
    assert (second.item, second.score) == ("a", pytest.approx(math.exp(-1)))


def test_words_are_a_share_of_the_best() -> None:
    full, short = by_words({"a": 8.0, "b": 2.0}, pool=2), by_words({"a": 8.0, "b": 2.0}, pool=3)
    assert full.best == {"a": 1.0, "b": 0.25}
    assert full.of_others("c") == 0.25, "it may have been next"
    assert short.of_others("c") == 0.0, "it has none of the words"


def test_one_without_a_vector_counts_as_the_last() -> None:
    near = by_vectors({"a": 0.9, "b": 0.5}, {"c": 0.4})
    assert [near.of_others(item) for item in "cd"] == [0.4, 0.4]


def test_links_fade_by_rank() -> None:
    assert list(by_links({"a": 70.0, "b": 70.0, "c": 1.0}).best.values()) == [1.0, 5 / 6, 5 / 7]


def test_nothing_found_is_nothing() -> None:
    assert (
        list(fuse({BM25: by_words({}, 100), VECTORS: by_vectors({}, {}), GRAPH: by_links({})}, Mix().weights))
        == []
    )
