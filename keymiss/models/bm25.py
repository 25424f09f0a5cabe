"""BM25 over token ids: which texts of a collection have the most telling words of a query.

In token space, so that a collection that is tokenized anyway needs nothing else (Robertson and Zaragoza
2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75  # the usual ones
COMMON = 0.1  # tokens in more of the texts than this say nothing, and cost the most

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


class Bm25:
    """The texts, each an array of token ids. `ignored`: tokens that are no reason to find a text."""

    def __init__(self, texts: Sequence[Ints], vocabulary: int, ignored: Iterable[int] = ()) -> None:
        lengths = np.array([len(text) for text in texts], np.int64)
        tokens = np.concatenate([np.zeros(0, np.int32), *texts]).astype(np.int64)
        places = np.repeat(np.arange(len(texts)), lengths)
        pairs, counts = np.unique(tokens * len(texts) + places, return_counts=True)
        token, self._place = pairs // len(texts), (pairs % len(texts)).astype(np.int64)
        self._first = np.searchsorted(token, np.arange(vocabulary + 1))
        found = np.diff(self._first)  # texts a token is in
        rarity = np.log(1 + (len(texts) - found + 0.5) / (found + 0.5))
        rarity[found > max(COMMON * len(texts), 2)] = 0
        rarity[list(ignored)] = 0
        norm = K1 * (1 - B + B * lengths / max(1.0, lengths.sum() / max(1, len(lengths))))
        self._weight = (rarity[token] * counts * (K1 + 1) / (counts + norm[self._place])).astype(np.float32)
        self._tells, self._size = rarity > 0, len(texts)

    def scores(self, query: Ints) -> Floats:
        """Of every text; 0 where it shares no telling token."""
        parts = [
            slice(self._first[token], self._first[token + 1])
            for token in set(query.tolist())
            if self._tells[token]
        ]
        if not parts:
            return np.zeros(self._size, np.float32)
        places = np.concatenate([self._place[part] for part in parts])
        weights = np.concatenate([self._weight[part] for part in parts])
        return np.bincount(places, weights, self._size).astype(np.float32)


def best(scores: Floats, count: int) -> list[int]:
    """Numbers of the best `count` texts with a score, best first."""
    count = min(count, len(scores))
    if not count:
        return []
    chosen = np.argpartition(-scores, count - 1)[:count]
    ordered = sorted(chosen.tolist(), key=lambda number: (-scores[number], number))
    return [number for number in ordered if scores[number] > 0]
