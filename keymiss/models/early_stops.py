"""What is saved and lost when not all candidates are read: the first ones by retrieval, and the others only
if none of these gives a sure answer (keymiss.api.questions.answering)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Protocol, TypeVar

from keymiss.models.asking import percent

FIRST = (3, 4, 6, 8, 10)
SURE_SCORES = (0.8, 0.9, 0.95)
RULES = tuple(product(FIRST, SURE_SCORES))
COLUMNS = {
    "file": "file",
    "first": "read first", "sure": "sure above", "stopped": "stopped", "read": "sentences read",
    "right_1": "right @1", "all_right_1": "of all candidates",
    "refused": "unanswered refused", "all_refused": "of all candidates",
}  # fmt: skip


class Found(Protocol):
    """A candidate that was read."""

    @property
    def right(self) -> bool:
        """Whether it answers."""


One = TypeVar("One", bound=Found)


def read_until_sure(
    found: Sequence[One], first: int, enough: float, sure: Callable[[One], float]
) -> Sequence[One]:
    """Those of the candidates, best first by retrieval, that are read."""
    now = found[:first]
    return now if max(map(sure, now)) > enough else found


def table(
    asked: Sequence[tuple[bool, Sequence[One]]],
    sure: Callable[[One], float],
    min_score: float,
    rules: Iterable[tuple[int, float]] = RULES,
) -> list[dict[str, object]]:
    """A row for each rule: how many are read first, and the score that is to be exceeded. `asked`: whether
    the articles that were searched answer the question, and all of its candidates. Percent of the questions;
    sentences are means of those that are answered."""
    answered = [found for there, found in asked if there]
    others = [found for there, found in asked if not there]

    def right(some: Sequence[Sequence[One]]) -> float:
        best = [max(found, key=sure) for found in some]
        return percent([one.right and sure(one) >= min_score for one in best])

    def refused(some: Sequence[Sequence[One]]) -> float:
        return percent([max(map(sure, found)) < min_score for found in some])

    rows: list[dict[str, object]] = []
    for first, enough in rules:
        read = [read_until_sure(found, first, enough, sure) for found in answered]
        rows.append({
            "first": first,
            "sure": enough,
            "stopped": percent([len(now) < len(every) for now, every in zip(read, answered, strict=True)]),
            "read": sum(map(len, read)) / len(read),
            "right_1": right(read),
            "all_right_1": right(answered),
            "refused": refused([read_until_sure(found, first, enough, sure) for found in others]),
            "all_refused": refused(others),
        })  # fmt: skip
    return rows
