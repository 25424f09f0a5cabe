"""The best span: start and end chosen together, inside the sentence, of bounded length, with a score."""

from __future__ import annotations

import numpy as np
import pytest

from keymiss.reading.span import best_span

CONTEXT = "alpha beta gamma delta"
# [CLS] q [SEP] alpha beta gamma delta [SEP]
OFFSETS = np.array([[-1, -1]] * 3 + [[0, 5], [6, 10], [11, 16], [17, 22]] + [[-1, -1]])


def logits(**at: float) -> np.ndarray:
    made = np.zeros(len(OFFSETS))
    for position, value in at.items():
        made[int(position[1:])] = value
    return made


def test_takes_the_greatest_sum_and_cuts_by_characters() -> None:
    span = best_span(logits(_4=5), logits(_5=5), OFFSETS, CONTEXT)
    assert (span.text, span.start, span.end, span.logit) == ("beta gamma", 6, 16, 10.0)


def test_start_and_end_are_chosen_together() -> None:
    """Alone, the best end lies before the best start: an empty answer in the original."""
    span = best_span(logits(_6=5, _3=4), logits(_4=5, _6=1), OFFSETS, CONTEXT)
    assert span.text == "alpha beta"


def test_nothing_outside_the_sentence_is_an_answer() -> None:
    span = best_span(logits(_0=50, _1=50, _7=50, _5=1), logits(_1=50, _2=50, _7=50, _5=1), OFFSETS, CONTEXT)
    assert span.text == "gamma"


def test_length_limit() -> None:
    start, end = logits(_3=5), logits(_6=5)
    assert best_span(start, end, OFFSETS, CONTEXT, max_answer_tokens=4).text == CONTEXT
    assert best_span(start, end, OFFSETS, CONTEXT, max_answer_tokens=3).text != CONTEXT


def test_same_as_trying_every_pair() -> None:
    random = np.random.default_rng(7)
    for turn in range(100):
        n, limit = int(random.integers(1, 40)), int(random.integers(1, 35))
        start, end = random.normal(size=n + 4), random.normal(size=n + 4)
        context = "".join("abcdefghij"[i % 10] + " " for i in range(n))
        offsets = np.full((n + 4, 2), -1)
        offsets[3:-1] = [[2 * i, 2 * i + 1] for i in range(n)]
        here = [i for i in range(n) if turn % 2 or i in (0, n - 1) or random.random() < 0.9]
        offsets[[i + 3 for i in range(n) if i not in here]] = -1
        pairs = [(i, j) for i in here for j in here if 0 <= j - i < limit]
        sums = {(i, j): start[i + 3] + end[j + 3] for i, j in pairs}
        i, j = max(sums, key=lambda pair: sums[pair])
        total = sum(np.exp(value) for value in sums.values()) + np.exp(start[0] + end[0])
        span = best_span(start, end, offsets, context, limit)
        assert (span.start, span.end) == (2 * i, 2 * j + 1)
        assert span.text == context[2 * i : 2 * j + 1]
        assert span.score == pytest.approx(np.exp(sums[i, j]) / total)


def test_score_is_a_share_of_one() -> None:
    assert best_span(logits(_4=500), logits(_4=500), OFFSETS, CONTEXT).score == pytest.approx(1.0)
    assert best_span(logits(), logits(), OFFSETS, CONTEXT).score == pytest.approx(1 / 11)  # ten spans, "none"
    assert best_span(logits(_0=900), logits(_0=900), OFFSETS, CONTEXT).score == 0.0


def test_float32_and_lists() -> None:
    span = best_span([0, 0, 0, 9, 0, 0, 0, 0], np.zeros(8, np.float32), OFFSETS.tolist(), CONTEXT)
    assert span.text.startswith("alpha")


def test_errors() -> None:
    with pytest.raises(ValueError, match="shapes do not fit"):
        best_span(np.zeros(3), np.zeros(4), OFFSETS, CONTEXT)
    with pytest.raises(ValueError, match="no token"):
        best_span(np.zeros(3), np.zeros(3), np.full((3, 2), -1), CONTEXT)
    with pytest.raises(ValueError, match="not finite"):
        best_span(logits(_4=float("nan")), logits(), OFFSETS, CONTEXT)
    with pytest.raises(ValueError, match="not finite"):
        best_span(logits(_4=float("inf")), logits(_5=float("-inf")), OFFSETS, CONTEXT)


def test_margin_is_what_the_span_has_more_than_no_answer() -> None:
    assert best_span(logits(_4=5, _0=2), logits(_4=5, _0=1), OFFSETS, CONTEXT).margin == pytest.approx(7.0)
