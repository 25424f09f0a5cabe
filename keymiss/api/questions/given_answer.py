"""The answer in a ``bertspan`` value: what the function in gears/qa.py gives for one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic_core import from_json


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """``score``: the reader's, 0 to 1. ``start``, ``end``: characters of the sentence that was read, if the
    value says so; not checked."""

    answer: str
    score: float
    start: object = None
    end: object = None


def given_answer(raw: bytes) -> GivenAnswer | None:
    """None when the value is not what it should be."""
    try:
        value = from_json(raw)
        answer, score = value["answer"], value["score"]
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(answer, str) or isinstance(score, bool) or not isinstance(score, int | float):
        return None
    if not math.isfinite(score):
        return None
    return GivenAnswer(answer, min(max(float(score), 0.0), 1.0), value.get("start"), value.get("end"))
