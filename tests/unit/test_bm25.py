"""BM25 over token ids."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keymiss.models.bm25 import K1, B, Bm25, best


def ids(*tokens: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(tokens, np.int32)


TEXTS = [ids(1, 2, 3), ids(1, 1, 4, 5, 6, 7), ids(8), ids(9, 9, 10)]


def test_scores_worked_out_by_hand() -> None:
    mean = 13 / 4
    rarity = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))  # token 1 is in two of the four
    once = rarity * (K1 + 1) / (1 + K1 * (1 - B + B * 3 / mean))
    twice = rarity * 2 * (K1 + 1) / (2 + K1 * (1 - B + B * 6 / mean))
    assert Bm25(TEXTS, 20).scores(ids(1)) == pytest.approx([once, twice, 0, 0])


def test_the_rarer_word_tells_more() -> None:
    index = Bm25([ids(1, 2), ids(1, 3), ids(4, 5), ids(6, 7), ids(8, 9)], 20)
    assert best(index.scores(ids(1, 3)), 9) == [1, 0]


def test_ignored_and_unknown_tokens_find_nothing() -> None:
    index = Bm25(TEXTS, 20, ignored=[1])
    assert best(index.scores(ids(1, 15)), 9) == []
    assert best(index.scores(ids(1, 2)), 9) == [0]


def test_words_of_every_text_find_nothing() -> None:
    assert not Bm25([ids(1, number) for number in range(2, 40)], 50).scores(ids(1)).any()


def test_equal_ones_in_order_and_not_more_than_asked() -> None:
    index = Bm25([ids(3), ids(1), ids(1), ids(1), *[ids(2)] * 36], 5)
    assert best(index.scores(ids(1)), 9) == [1, 2, 3]
    assert len(best(index.scores(ids(1)), 2)) == 2


def test_nothing_to_search_in() -> None:
    assert best(Bm25([], 5).scores(ids(1)), 3) == []
