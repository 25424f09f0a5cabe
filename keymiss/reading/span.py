"""The answer in a sentence: the best pair of start and end, chosen together, and how sure the model is."""

from __future__ import annotations

from dataclasses import dataclass

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
    tokens = np.flatnonzero((places[:, 0] >= 0) & (places[:, 1] > places[:, 0]))
    if not len(tokens) or max_answer_tokens < 1:
        raise ValueError("no token to choose an answer from")
    if not (np.isfinite(starts[tokens]).all() and np.isfinite(ends[tokens]).all()):
        raise ValueError("the model's logits are not finite")
    joint = _joint(starts[tokens], ends[tokens], tokens, max_answer_tokens)
    first, last = np.unravel_index(int(np.argmax(joint)), joint.shape)
    best = float(joint[first, last])
    null = float(starts[0] + ends[0])
    top = max(best, null) if np.isfinite(null) else best
    total = float(np.exp(joint - top).sum()) + (float(np.exp(null - top)) if np.isfinite(null) else 0.0)
    start, end = int(places[tokens[first], 0]), int(places[tokens[last], 1])
    score = min(1.0, float(np.exp(best - top)) / total)
    return Span(context[start:end], start, end, score, best, best - null if np.isfinite(null) else best)


def _joint(
    starts: NDArray[np.float64], ends: NDArray[np.float64], tokens: NDArray[np.intp], longest: int
) -> NDArray[np.float64]:
    """start + end for every pair [n, n], -inf where the pair is not a span."""
    length = tokens[None, :] - tokens[:, None] + 1
    return np.where((length >= 1) & (length <= longest), starts[:, None] + ends[None, :], -np.inf)
