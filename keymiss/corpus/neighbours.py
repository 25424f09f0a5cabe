"""A sentence with its neighbours: what is indexed of it, as words and as a vector.

The neighbours are the NEIGHBOURS sentences before and after it in its article, across paragraphs. They always
count, but less than the sentence. Measured (scripts/evaluate_retrieval.py): for BM25 much better than the
sentence alone, and better than the whole paragraph; for vectors as good as encoding the sentences together,
which takes three times as long and makes a changed sentence change its neighbours' vectors too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 2
"""On each side; 3 was no better."""
OWN_TIMES = 4
"""How often the sentence's own words count, to once for its neighbours'. 3 was as good, 1 and 2 worse."""
NEIGHBOUR_WEIGHT = 0.5
"""Of the neighbours' mean, to 1 for the sentence's own vector. 0.4 to 0.6 were as good."""
MAX_NEIGHBOUR_CHARS = 1000
"""Of one neighbour, if it was not cut before: a list or table would drown the sentence."""


def in_order(indexes: Iterable[str]) -> list[str]:
    """The fields of a ``sentence:`` hash as they stand in the article: numbers by value, then the rest."""
    return sorted(indexes, key=lambda idx: (0, int(idx), idx) if _is_number(idx) else (1, 0, idx))


def _is_number(idx: str) -> bool:
    return idx.isascii() and idx.isdigit() and len(idx) < 16


def texts_in_context(sentences: Sequence[str], neighbours: int = NEIGHBOURS) -> list[str]:
    """What is indexed for each of an article's sentences, in order; with 0 neighbours the sentence itself."""
    if neighbours == 0:
        return list(sentences)
    short = [sentence[:MAX_NEIGHBOUR_CHARS] for sentence in sentences]
    return [
        " ".join(
            (*short[max(0, at - neighbours) : at], *[own] * OWN_TIMES, *short[at + 1 : at + 1 + neighbours])
        )
        for at, own in enumerate(sentences)
    ]


def vectors_in_context(vectors: NDArray[np.float32], neighbours: int = NEIGHBOURS) -> NDArray[np.float32]:
    """[n, d] unit vectors of an article's sentences in order -> [n, d] unit vectors with their neighbours'.

    A row of zeros is a sentence without a vector: it stays zeros, and is nobody's neighbour.
    """
    there: NDArray[np.bool_] = np.abs(vectors).max(axis=1, initial=0) > 0
    total, count = np.zeros_like(vectors), np.zeros(len(vectors), np.float32)
    for away in range(1, min(neighbours, len(vectors) - 1) + 1):
        total[away:] += vectors[:-away]
        count[away:] += there[:-away]
        total[:-away] += vectors[away:]
        count[:-away] += there[away:]
    mixed = vectors + NEIGHBOUR_WEIGHT * total / np.maximum(count, 1)[:, None]
    mixed[~there] = 0
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    return (mixed / np.where(lengths > 0, lengths, 1)).astype(np.float32)
