"""The index of vectors, against all of them compared."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from keymiss.reading.stored_vector import DIMENSIONS, Vector
from keymiss.retrieval.vectors import VectorIndex

WANTED = 10
POOL = 100


def unit(count: int, seed: int) -> Vector:
    made = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def found_share(index: VectorIndex, there: dict[int, Vector]) -> float:
    """Of the WANTED nearest of 50 questions; every one that is found must be there, with its cosine."""
    numbers, vectors, hits = np.array(list(there)), np.stack(list(there.values())), 0
    for question in unit(50, 99):
        cosines = vectors @ question
        best = set(numbers[np.argsort(-cosines)[:WANTED]].tolist())
        found = index.search(question, POOL)
        assert len(found) == POOL
        assert [cosine for _, cosine in found] == sorted((cosine for _, cosine in found), reverse=True)
        exact = [there[number] @ question for number, _ in found]
        np.testing.assert_allclose([cosine for _, cosine in found], exact, rtol=0, atol=2e-3)
        hits += len(best & {number for number, _ in found})
    return hits / (50 * WANTED)


def test_the_nearest_are_found_through_changes_and_removals() -> None:
    """Random vectors are the hardest: all are as far from each other. A new index of the same is compared."""
    index, there = VectorIndex(), dict(enumerate(unit(800, 1)))
    index.put(there)
    assert found_share(index, there) > 0.9
    for turn in range(5):  # more than once round: the graph is made anew on the way
        gone = list(there)[turn % 4 :: 4]
        index.remove(gone)
        for number in gone:
            del there[number]
        changed = dict(zip(list(there)[::3], unit(len(there), 10 + turn), strict=False))
        index.put(changed)
        there |= changed
        new = dict(zip(range(10_000 + 1000 * turn, 10_200 + 1000 * turn), unit(200, 50 + turn), strict=True))
        index.put(new)
        there |= new
        assert len(index) == len(there)
    fresh = VectorIndex()
    fresh.put(there)
    assert found_share(index, there) > found_share(fresh, there) - 0.05


@pytest.mark.parametrize("seed", [2, 3, 7, 8, 11, 15])
def test_what_is_changed_again_and_again_is_found_as_its_neighbours_are(seed: int) -> None:
    """One sentence is written 500 times, each time nearly the same. It is found itself, always; of its
    neighbours nearly all, as the graph is an approximation (another one on each kind of processor)."""
    index, vectors = VectorIndex(), unit(600, seed)
    index.put(dict(enumerate(vectors)))
    near = vectors[0] + 0.01 * unit(500, 1000 + seed)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    for vector in near:
        index.put({0: vector})
    (first, cosine), *others = index.search(vectors[0], WANTED)
    assert (first, cosine) == (0, pytest.approx(1, abs=2e-3))
    best = np.argsort(-(vectors[1:] @ vectors[0]))[: WANTED - 1] + 1
    assert len(others) == len(best)
    assert len(set(best.tolist()) & {number for number, _ in others}) >= len(best) - 1
    index.remove([0])
    assert 0 not in dict(index.search(vectors[0], WANTED))


def test_the_same_vector_again_changes_nothing() -> None:
    index, there = VectorIndex(), dict(enumerate(unit(20, 1)))
    index.put(there)
    graph = index._graph
    added = len(graph)
    index.put(there)
    assert len(index) == len(index._graph) == added == 20


def test_more_than_there_are_and_none() -> None:
    index, (one, two) = VectorIndex(), unit(2, 3)
    assert index.search(one, 5) == []
    index.put({7: one, 8: two})
    assert [number for number, _ in index.search(one, 5)] == [7, 8]
    assert index.search(one, 0) == []
    index.remove([7, 7, 9])
    assert [number for number, _ in index.search(one, 5)] == [8]
    assert index.cosines([7, 8], two) == {8: pytest.approx(1, abs=2e-3)}
    index.remove([8])
    assert index.search(one, 5) == []


def test_searches_go_on_while_it_changes() -> None:
    index, vectors = VectorIndex(), unit(3000, 5)
    index.put(dict(enumerate(vectors[:200])))
    stop, faults = threading.Event(), list[BaseException]()

    def search() -> None:
        try:
            while not stop.is_set():
                assert index.search(vectors[0], 5)[0][0] == 0
        except BaseException as error:  # shown by the assertion below
            faults.append(error)

    searcher = threading.Thread(target=search)
    searcher.start()
    index.put({number: vectors[number] for number in range(200, 3000)})
    index.remove(range(1, 2000))
    stop.set()
    searcher.join()
    assert faults == []
    assert len(index) == 1001
