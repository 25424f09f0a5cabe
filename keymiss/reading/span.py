"""The answer in a sentence: the best pair of start and end, chosen together, and how sure the model is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_ANSWER_TOKENS = 30  # HF's SQuAD recipe


@dataclass(frozen=True)
class Span:
    """An answer: `text` is context[start:end] (characters), `score` in [0, 1], `logit` start + end, `margin`
    how much that is more than "no answer"'s."""

    text: str
    start: int
    end: int
    score: float
    logit: float
    margin: float


def best_span(
    start_logits: ArrayLike,
    end_logits: ArrayLike,
    offsets: ArrayLike,
    context: str,
    max_answer_tokens: int = MAX_ANSWER_TOKENS,
) -> Span:
    """The best span of one window.

    start_logits, end_logits: [seq]; offsets: [seq, 2], characters in `context`, -1 where a token is not of
    it; token 0 is [CLS]. Among spans of tokens of the context with start <= end and at most
    `max_answer_tokens` tokens, the one with the greatest start + end. The score is its probability among all
    those spans and "no answer" ([CLS] as start and end).

    ValueError: shapes that do not fit, numbers that are not finite, or no token of the context at all.
    """
    starts, ends = np.asarray(start_logits, np.float64), np.asarray(end_logits, np.float64)
    places = np.asarray(offsets)
    if starts.ndim != 1 or starts.shape != ends.shape or places.shape != (len(starts), 2):
        raise ValueError(f"shapes do not fit: start {starts.shape}, end {ends.shape}, offsets {places.shape}")
    begins, stops = places.T.tolist()
    tokens = [i for i, (begin, stop) in enumerate(zip(begins, stops, strict=True)) if 0 <= begin < stop]
    if not tokens or max_answer_tokens < 1:
        raise ValueError("no token to choose an answer from")
    n, first = len(tokens), tokens[0]
    if tokens[-1] - first == n - 1:  # as nearly always
        some: Any = slice(first, first + n)
        no_spans = _no_spans_in_a_row(n, max_answer_tokens)
    else:
        some = np.array(tokens)
        no_spans = _no_spans(some, max_answer_tokens)
    with np.errstate(invalid="ignore"):  # of infinite ones
        joint = starts[some, None] + ends[some]
        of_all = joint.sum()
    if not isfinite(of_all):
        raise ValueError("the model's logits are not finite")
    joint[no_spans] = -np.inf
    first, last = divmod(int(joint.argmax()), n)
    best, null = float(joint[first, last]), float(starts[0] + ends[0])
    top = max(best, null) if isfinite(null) else best
    total = float(np.exp((joint - top).astype(np.float32)).sum())
    total += exp(null - top) if isfinite(null) else 0.0
    start, end = begins[tokens[first]], stops[tokens[last]]
    score = min(1.0, exp(best - top) / total)
    return Span(context[start:end], start, end, score, best, best - null if isfinite(null) else best)


@lru_cache(64)
def _no_spans_in_a_row(n: int, longest: int) -> NDArray[np.bool_]:
    return _no_spans(np.arange(n), longest)


def _no_spans(tokens: NDArray[np.intp], longest: int) -> NDArray[np.bool_]:
    """[n, n]: where a pair of first and last token is no span of at most `longest` tokens."""
    length = tokens - tokens[:, None] + 1
    found: NDArray[np.bool_] = (length < 1) | (length > longest)
    return found
