"""One ranking of several signals: for each item the weighted sum of what they say of it. No input or output.

Words count by their share of the best BM25, vectors by their cosine, links by their rank: BM25 and links have
no scale of their own. Sums of scores, not of ranks (reciprocal rank fusion): docs/retrieval.md has what each
finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

BM25, VECTORS, GRAPH = "bm25", "vectors", "graph"
LINKS_FADE = 5  # the sixth of the links counts half as much as the first
Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Mix:
    """How the signals are put together. `pool`: how many sentences of each signal, of all shards, count.

    Chosen on the parts of SQuAD, SQuADShifts, BioASQ and COVID-QA that are not held out, with the embedded
    encoder: words to vectors as 8 to 10; 7 and 9 were as good. Another encoder's cosines may spread less:
    then vectors want more weight (docs/retrieval.md). How great all of them are decides how much less the
    score of a later sentence is, and so how much it counts beside the reader's (RETRIEVAL_POWER).
    """

    bm25_weight: float = 5.0
    vector_weight: float = 6.4
    graph_weight: float = 1.4
    pool: int = 100

    @property
    def weights(self) -> dict[str, float]:
        """By signal; this is also the order in which equals are put."""
        return {BM25: self.bm25_weight, VECTORS: self.vector_weight, GRAPH: self.graph_weight}


@dataclass(frozen=True, slots=True)
class Said(Generic[Item]):
    """What a signal says: `best`, its best items with their values, best first; `of_others`: of any other."""

    best: Mapping[Item, float]
    of_others: Callable[[Item], float] = lambda _: 0.0


@dataclass(frozen=True, slots=True)
class Fused(Generic[Item]):
    """An item of the fused ranking, and the signals that had it among their best. `score`: 1 for the first
    item, less for all others; e to the power of how much their sums differ."""

    item: Item
    score: float
    found_by: tuple[str, ...]


def by_words(bm25: Mapping[Item, float], pool: int) -> Said[Item]:
    """Shares of the best. One that was not found counts as the last, or as 0 if there was room for it."""
    best, last = max(bm25.values(), default=1.0), min(bm25.values(), default=0.0)
    floor = last / best if len(bm25) >= pool else 0.0
    return Said({item: score / best for item, score in bm25.items()}, lambda _: floor)


def by_vectors(near: Mapping[Item, float], others: Mapping[Item, float]) -> Said[Item]:
    """Cosines; `others`: of those that are not among the nearest. One without a vector counts as the last."""
    floor = min((*near.values(), *others.values()), default=0.0)
    return Said(near, lambda item: others.get(item, floor))


def by_links(links: Mapping[Item, float]) -> Said[Item]:
    """By rank; the scores of links say nothing beside those of others."""
    return Said({item: LINKS_FADE / (LINKS_FADE + rank) for rank, item in enumerate(links)})


def fuse(signals: Mapping[str, Said[Item]], weights: Mapping[str, float]) -> Iterator[Fused[Item]]:
    """What the signals say to one ranking, best first. A signal of weight 0 is left out.

    Equal scores stay in the order in which the signals, as `weights` has them, name them.
    """
    used = [
        (name, weight, signals[name]) for name, weight in weights.items() if weight > 0 and name in signals
    ]
    sums = dict.fromkeys((item for _, _, said in used for item in said.best), 0.0)
    for _, weight, said in used:
        for item in sums:
            sums[item] += weight * (said.best[item] if item in said.best else said.of_others(item))
    most = max(sums.values(), default=0.0)
    for item in sorted(sums, key=sums.__getitem__, reverse=True):  # stable
        found_by = tuple(name for name, _, said in used if item in said.best)
        yield Fused(item, math.exp(sums[item] - most), found_by)
