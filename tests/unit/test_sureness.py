"""How sure an answer is: reader and retrieval together."""

from __future__ import annotations

import itertools

import pytest

from keymiss.api.questions.sureness import WITH_VECTORS, WORDS_ALONE, Weights, sureness
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
