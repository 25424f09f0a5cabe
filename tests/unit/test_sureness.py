"""How sure an answer is: reader and retrieval together."""

from __future__ import annotations

import itertools
import math

import pytest

from keymiss.api.questions.answering import not_far_behind
from keymiss.api.questions.sureness import WITH_VECTORS, WORDS_ALONE, Weights, log_odds, outlook, sureness
from keymiss.retrieval import Candidate


def candidate(coverage: float, cosine: float | None) -> Candidate:
    return Candidate("A", "6fd", "0", "A sentence.", 1.0, cosine, coverage=coverage)


@pytest.mark.parametrize("cosine", [None, 0.5])
def test_it_grows_with_the_reader_s_score_and_with_what_is_covered(cosine: float | None) -> None:
    scores = [sureness(score, candidate(0.5, cosine)) for score in (0.0, 0.01, 0.3, 0.9, 1.0)]
    covered = [sureness(0.5, candidate(share, cosine)) for share in (0.0, 0.2, 0.8, 1.0)]
    for given in (scores, covered):
        assert all(one < other for one, other in itertools.pairwise(given))
        assert 0 < given[0] < given[-1] < 1


def test_it_grows_with_the_cosine() -> None:
    assert sureness(0.5, candidate(0.5, -0.2)) < sureness(0.5, candidate(0.5, 0.7))


def test_another_subject_is_refused_and_the_subject_is_taken() -> None:
    assert sureness(0.6, candidate(0.2, 0.2)) < 0.3
    assert sureness(0.6, candidate(1.0, 0.7)) > 0.8


def test_without_a_vector_the_words_count_for_more() -> None:
    assert WITH_VECTORS.cosine > 0 == WORDS_ALONE.cosine
    assert WORDS_ALONE.coverage > WITH_VECTORS.coverage
    middle = sureness(0.5, candidate(0.9, None))
    assert sureness(0.5, candidate(0.9, 0.0)) < middle < sureness(0.5, candidate(0.9, 0.9))


def test_by_hand() -> None:
    weights = Weights(reader=2.0, coverage=3.0, cosine=1.0, shift=-4.0)
    assert weights.probability(0.5, candidate(1.0, 1.0)) == pytest.approx(0.5)
    assert weights.probability(0.5, candidate(1.0, None)) == pytest.approx(1 / (1 + 2.718281828459045))


@pytest.mark.parametrize("cosine", [None, 0.5])
def test_the_outlook_is_what_is_not_the_reader_s(cosine: float | None) -> None:
    one = candidate(0.7, cosine)
    weights = WORDS_ALONE if cosine is None else WITH_VECTORS
    found = sureness(0.9, one)
    assert outlook(one) == pytest.approx(math.log(found / (1 - found)) - weights.reader * log_odds(0.9))


def test_those_far_behind_the_best_of_all_shards_are_left_out() -> None:
    best, near, far = candidate(1.0, None), candidate(0.8, None), candidate(0.2, None)
    every = {"x": [best, far], "y": [far, near], "z": []}
    later = {"x": [far], "y": [far, near], "z": []}
    behind = outlook(best) - outlook(near)
    assert not_far_behind(later, every, behind + 1e-9) == {"x": [], "y": [near], "z": []}
    assert not_far_behind(later, every, behind - 1e-9) == {"x": [], "y": [], "z": []}
    assert not_far_behind(later, every, 100) == later
    assert not_far_behind({}, {}, 2) == {}
