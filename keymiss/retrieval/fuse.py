"""One ranking of several: reciprocal rank fusion (Cormack, Clarke, Buettcher 2009). No input or output here.

An item's score is the sum of weight / (k + rank) over the rankings that have it, rank counted from 1. Ranks
and not scores, because BM25, cosines and links have nothing in common but their order.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

BM25, VECTORS, GRAPH = "bm25", "vectors", "graph"
Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Mix:
    """How the signals are put together. `pool`: how many sentences of each signal, of all shards, count.

    `rrf_k` is small, not the usual 60: the first few ranks matter here. Chosen on SQuAD's questions
    (scripts/evaluate_retrieval.py): 5 and 10 were best for the right paragraph among the first 5.
    """

    bm25_weight: float = 1.0
    vector_weight: float = 1.0
    graph_weight: float = 0.5
    rrf_k: float = 5.0
    pool: int = 100

    @property
    def weights(self) -> dict[str, float]:
        """By signal; this is also the order in which equals are put."""
        return {BM25: self.bm25_weight, VECTORS: self.vector_weight, GRAPH: self.graph_weight}


@dataclass(frozen=True, slots=True)
class Fused(Generic[Item]):
    """An item of the fused ranking, and the signals that had it."""

    item: Item
    score: float
    found_by: tuple[str, ...]


def fuse(rankings: Mapping[str, Sequence[Item]], weights: Mapping[str, float], k: float) -> list[Fused[Item]]:
    """Signal -> its items, best first, to one ranking, best first. A signal of weight 0 is left out.

    Equal scores stay in the order in which the signals, as `weights` has them, name them.
    """
    scores: dict[Item, float] = {}
    found_by: dict[Item, list[str]] = {}
    for signal, weight in weights.items():
        if weight <= 0:
            continue
        for rank, item in enumerate(rankings.get(signal, ()), 1):
            scores[item] = scores.get(item, 0.0) + weight / (k + rank)
            found_by.setdefault(item, []).append(signal)
    ordered = sorted(scores, key=lambda item: -scores[item])  # stable
    return [Fused(item, scores[item], tuple(found_by[item])) for item in ordered]
