"""Reciprocal rank fusion: several rankings to one."""

from __future__ import annotations

from keymiss.retrieval.fuse import BM25, GRAPH, VECTORS, Mix, fuse


def test_what_several_signals_like_comes_first() -> None:
    fused = fuse({BM25: ["a", "b", "c"], VECTORS: ["d", "c"], GRAPH: []}, Mix().weights, k=5)
    assert [one.item for one in fused] == ["c", "a", "d", "b"]
    assert fused[0].score == 1 / 8 + 1 / 7
    assert fused[0].found_by == (BM25, VECTORS)
    assert fused[1].found_by == (BM25,)


def test_equals_stay_in_the_order_of_the_signals() -> None:
    fused = fuse({VECTORS: ["x"], BM25: ["y"]}, {BM25: 1.0, VECTORS: 1.0}, k=60)
    assert [one.item for one in fused] == ["y", "x"]
    assert fused[0].score == fused[1].score


def test_weights_count_and_none_means_left_out() -> None:
    rankings = {BM25: ["a", "b"], VECTORS: ["b", "a"]}
    assert [one.item for one in fuse(rankings, {BM25: 1.0, VECTORS: 1.1}, 5)] == ["b", "a"]
    (first, second) = fuse(rankings, {BM25: 0.0, VECTORS: 2.0}, 5)
    assert (first.item, first.score, first.found_by) == ("b", 2 / 6, (VECTORS,))
    assert second.item == "a"


def test_nothing_found_is_nothing() -> None:
    assert fuse({BM25: [], VECTORS: []}, Mix().weights, 5) == []
