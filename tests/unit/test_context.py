"""A sentence with its neighbours: order, words, vectors."""

from __future__ import annotations

import numpy as np
import pytest

from keymiss.corpus.neighbours import (
    MAX_NEIGHBOUR_CHARS,
    NEIGHBOUR_WEIGHT,
    OWN_TIMES,
    in_order,
    texts_in_context,
    vectors_in_context,
)


def test_numbers_are_ordered_by_value_and_come_first() -> None:
    assert in_order(["10", "b", "9", "a", "0", "²", "1" * 400]) == ["0", "9", "10", "1" * 400, "a", "b", "²"]


def test_own_words_count_more_than_the_neighbours() -> None:
    texts = texts_in_context(["a", "b", "c", "d"])
    assert [text.split().count("b") for text in texts] == [1, OWN_TIMES, 1, 1]
    assert [text.split().count("a") for text in texts] == [OWN_TIMES, 1, 1, 0]
    assert texts_in_context(["only"]) == [" ".join(["only"] * OWN_TIMES)]
    assert texts_in_context([]) == []
    assert texts_in_context(["a", "b"], neighbours=0) == ["a", "b"]


def test_a_long_neighbour_counts_for_its_beginning_only() -> None:
    first, second = texts_in_context(["x" * 5000, "y"])
    assert first.count("x") == 5000 * OWN_TIMES
    assert second.count("x") == MAX_NEIGHBOUR_CHARS


def test_vectors_are_drawn_to_their_neighbours() -> None:
    mixed = vectors_in_context(np.eye(4, dtype=np.float32))
    assert np.linalg.norm(mixed, axis=1) == pytest.approx(np.ones(4))
    share = mixed[0] / mixed[0, 0]
    assert share == pytest.approx([1, NEIGHBOUR_WEIGHT / 2, NEIGHBOUR_WEIGHT / 2, 0])
    assert mixed[1] / mixed[1, 1] == pytest.approx(
        [NEIGHBOUR_WEIGHT / 3, 1, NEIGHBOUR_WEIGHT / 3, NEIGHBOUR_WEIGHT / 3]
    )


def test_a_sentence_without_a_vector_has_none_and_gives_none() -> None:
    own = np.eye(3, dtype=np.float32)
    own[1] = 0
    mixed = vectors_in_context(own)
    assert not mixed[1].any()
    assert mixed[0] / mixed[0, 0] == pytest.approx([1, 0, NEIGHBOUR_WEIGHT])


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_for_neighbours(count: int) -> None:
    own = np.eye(count, 5, dtype=np.float32)
    assert vectors_in_context(own) == pytest.approx(own)
