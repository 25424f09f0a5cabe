"""Nearest vectors: an HNSW graph in memory (usearch), vectors kept as float16.

A vector that is removed or replaced stays in the graph, where searches pass through it, and is not given any
more; when most of the graph is of that kind it is made anew. usearch's own removal is not used: after 20
rounds of replacing a third it found 88 % of the nearest vectors (2.23; with 2.26 58 %), a new one 96 %.

Where many removed copies of a vector lie, the one that is there may have no link to it left and no search
reaches it (a sentence written 500 times, each time nearly the same: in 2 of 5 trials). So what is added while
there are removed ones is looked for at once, and what is not found is kept beside the graph: searches compare
it by itself, and when there is too much of it the graph is made anew.

usearch rather than hnswlib: float16 takes half the memory, and it has wheels.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from keymiss.reading.stored_vector import DIMENSIONS

CONNECTIVITY = 16
EXPANSION_ADD = 96
EXPANSION_SEARCH = 128  # for a pool of 100; benchmark_retrieval.py --compare says what it misses
ADDED_AT_ONCE = 64  # between two of which a search may run
COMPARED_AT_ONCE = 4096  # vectors copied out of the graph at a time: 6 MB
FEW = 256  # removed ones, or ones that no search reaches: not worth a new graph
NEAREST = 10  # among which a search for a vector itself must find it, or others that are as near
AS_NEAR = 2e-3  # of a cosine, in float16
DIGEST_BYTES = 8

Vector = NDArray[np.float32]


def _empty() -> Index:
    return Index(
        ndim=DIMENSIONS,
        metric="ip",
        dtype="f16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )


class VectorIndex:
    """Unit vectors [DIMENSIONS] by number. One thread at a time may change it; any number may search."""

    def __init__(self) -> None:
        self._graph = _empty()
        self._nodes: dict[int, int] = {}  # number -> its node in the graph
        self._numbers: dict[int, int] = {}  # node -> number, of those not removed
        self._digests: dict[int, bytes] = {}
        self._beside: set[int] = set()  # numbers that a search of the graph does not reach
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many vectors can be found."""
        return len(self._nodes)

    def __contains__(self, number: int) -> bool:
        """Whether it can be found."""
        return number in self._nodes

    def put(self, vectors: Mapping[int, Vector]) -> None:
        """Adds vectors, in the place of those of the same number; the same vector again changes nothing."""
        changed = [
            (number, vector, digest)
            for number, vector in vectors.items()
            if self._digests.get(number) != (digest := _digest(vector))
        ]
        remaining = iter(changed)
        while batch := list(islice(remaining, ADDED_AT_ONCE)):
            added = np.stack([vector for _, vector, _ in batch])
            with self._lock:
                self._forget(number for number, _, _ in batch)
                first = len(self._graph)
                self._graph.add(np.arange(first, first + len(batch), dtype=np.uint64), added, threads=1)
                for node, (number, _, digest) in enumerate(batch, first):
                    self._nodes[number], self._numbers[node] = node, number
                    self._digests[number] = digest
                if len(self._graph) > len(self._nodes):
                    lost = (number for number, vector, _ in batch if self._is_lost(number, vector))
                    self._beside.update(lost)
        self._clean_up()

    def remove(self, numbers: Iterable[int]) -> None:
        """Those that are there."""
        with self._lock:
            self._forget(numbers)
        self._clean_up()

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            node = self._nodes.pop(number, None)
            if node is not None:
                del self._numbers[node], self._digests[number]
                self._beside.discard(number)

    def _is_lost(self, number: int, vector: Vector) -> bool:
        """Whether a search for this very vector gives others that are less near, and not it."""
        found = self._search(vector, NEAREST)
        alike = len(found) == NEAREST and found[-1][1] > float(vector @ vector) - AS_NEAR
        return not alike and number not in (other for other, _ in found)

    def _clean_up(self) -> None:
        """Makes the graph anew when most of it is removed vectors, or it does not reach many; meanwhile
        searches use the old one."""
        removed = len(self._graph) - len(self._nodes)
        if removed <= max(FEW, len(self._nodes)) and len(self._beside) <= FEW:
            return
        graph, remaining = _empty(), iter(list(self._numbers))
        while nodes := list(islice(remaining, ADDED_AT_ONCE)):
            with self._lock:
                vectors = self._graph.get(np.array(nodes, np.uint64), dtype="f16")
            first = len(graph)
            graph.add(np.arange(first, first + len(nodes), dtype=np.uint64), np.asarray(vectors), threads=1)
        numbers = dict(enumerate(self._numbers.values()))
        with self._lock:
            self._graph, self._numbers = graph, numbers
            self._nodes = {number: node for node, number in numbers.items()}
            self._beside.clear()

    def search(
        self, vector: Vector, limit: int, only: Collection[int] | None = None
    ) -> list[tuple[int, float]]:
        """(number, cosine) of the at most `limit` nearest, nearest first; nearly always the true ones.

        `only`: the nearest of these numbers, each compared by itself: a search of the graph that has to leave
        out most of what it passes may end before it has found enough.
        """
        with self._lock:
            if only is None:
                found = dict(self._search(vector, limit))
                found |= {number: self._cosine(self._nodes[number], vector) for number in self._beside}
            else:
                found = self._compared(vector, only)
            return sorted(found.items(), key=itemgetter(1), reverse=True)[: max(0, limit)]

    def _compared(self, vector: Vector, only: Collection[int]) -> dict[int, float]:
        """Number -> cosine, of those of `only` that are there."""
        there = [number for number in only if number in self._nodes]
        cosines: dict[int, float] = {}
        remaining = iter(there)
        while numbers := list(islice(remaining, COMPARED_AT_ONCE)):
            nodes = np.array([self._nodes[number] for number in numbers], np.uint64)
            vectors = np.asarray(self._graph.get(nodes, dtype="f16")).reshape(len(nodes), DIMENSIONS)
            cosines |= zip(numbers, (vectors.astype(np.float32) @ vector).tolist(), strict=True)
        return cosines

    def _search(self, vector: Vector, limit: int) -> list[tuple[int, float]]:
        """What the graph gives."""
        limit, wanted = min(limit, len(self._nodes)), limit
        while limit > 0:
            found, reached = self._matches(vector, wanted, exact=False)
            if len(found) >= limit:
                return found[:limit]
            if reached < wanted:  # removed copies of one vector have only each other for neighbours
                return self._matches(vector, len(self._graph), exact=True)[0][:limit]
            wanted *= 2
        return []

    def _matches(self, vector: Vector, wanted: int, exact: bool) -> tuple[list[tuple[int, float]], int]:
        """Those of the graph's `wanted` nearest that were not removed, and how many it gave with these."""
        matches = self._graph.search(vector, wanted, exact=exact, threads=1)
        found = [
            (self._numbers[node], 1.0 - distance)
            for node, distance in zip(matches.keys.tolist(), matches.distances.tolist(), strict=True)
            if node in self._numbers
        ]
        return found, len(matches.keys)

    def cosines(self, numbers: Collection[int], vector: Vector) -> dict[int, float]:
        """Number -> cosine, of those that are there."""
        with self._lock:
            return self._compared(vector, numbers)

    def _cosine(self, node: int, vector: Vector) -> float:
        return float(np.asarray(self._graph.get(node), np.float32).reshape(-1) @ vector)


def _digest(vector: Vector) -> bytes:
    return hashlib.blake2b(vector.astype("<f2").tobytes(), digest_size=DIGEST_BYTES).digest()
