"""Nearest vectors: an HNSW graph in memory (usearch), vectors kept as float16.

usearch rather than hnswlib: it keeps float16 (half the memory), really takes vectors out, and has wheels.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from keymiss.stored_vector import DIMENSIONS

CONNECTIVITY = 16
EXPANSION_ADD = 96
EXPANSION_SEARCH = (
    192  # neighbours kept while searching: for 100 of them; scripts/benchmark_retrieval.py has recall
)
ADDED_AT_ONCE = 64  # between two of which a search may run
DIGEST_BYTES = 8

Vector = NDArray[np.float32]


class VectorIndex:
    """Unit vectors [DIMENSIONS] by number. Can be used by several threads at once."""

    def __init__(self) -> None:
        self._index = Index(
            ndim=DIMENSIONS,
            metric="ip",
            dtype="f16",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )
        self._digests: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many vectors can be found."""
        return len(self._digests)

    def put(self, vectors: Mapping[int, Vector]) -> None:
        """Adds vectors, in the place of those of the same number; the same vector again changes nothing."""
        changed = [
            (number, vector, digest)
            for number, vector in vectors.items()
            if self._digests.get(number) != (digest := _digest(vector))
        ]
        self.remove(number for number, _, _ in changed)
        remaining = iter(changed)
        while batch := list(islice(remaining, ADDED_AT_ONCE)):
            numbers = np.array([number for number, _, _ in batch], np.uint64)
            with self._lock:
                self._index.add(numbers, np.stack([vector for _, vector, _ in batch]), threads=1)
                self._digests.update((number, digest) for number, _, digest in batch)

    def remove(self, numbers: Iterable[int]) -> None:
        """Those that are there."""
        there = [number for number in numbers if number in self._digests]
        if there:
            with self._lock:
                self._index.remove(np.array(there, np.uint64))
                for number in there:
                    del self._digests[number]

    def search(self, vector: Vector, limit: int) -> list[tuple[int, float]]:
        """(number, cosine) of the at most `limit` nearest, nearest first; nearly always the true ones."""
        with self._lock:
            limit = min(limit, len(self._digests))
            if limit < 1:
                return []
            found = self._index.search(vector, limit, threads=1)
            return [
                (int(number), 1.0 - float(distance))
                for number, distance in zip(found.keys, found.distances, strict=True)
            ]

    def cosine(self, number: int, vector: Vector) -> float | None:
        """Of one vector that is there, None if it is not."""
        with self._lock:
            if number not in self._digests:
                return None
            there = np.asarray(self._index.get(number), np.float32).reshape(-1)
        return float(there @ vector)


def _digest(vector: Vector) -> bytes:
    return hashlib.blake2b(vector.astype("<f2").tobytes(), digest_size=DIGEST_BYTES).digest()
