"""What is saved and lost when not all candidates are read: the first ones by retrieval; if none of these
gives a sure answer the others too, but for those that lie far behind (keymiss.api.questions.answering)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import NamedTuple, Protocol, TypeVar

from keymiss.models.asking import percent


class Rule(NamedTuple):
    """How many are read first; the score that is to be exceeded; how far behind the best one others may lie,
    in log odds."""

    first: int
    sure: float
    behind: float


RULES = (
    *(Rule(first, sure, inf) for first in (3, 4, 6, 8) for sure in (0.8, 0.9, 0.95)),
    *(Rule(4, sure, behind) for sure in (0.8, 0.9, 0.95) for behind in (3.0, 2.5, 2.0, 1.5, 1.0)),
)
COLUMNS = {
    "file": "file",
    "first": "read first", "sure": "sure above", "behind": "behind", "stopped": "stopped",
    "read": "sentences read", "read_unanswered": "of unanswered",
    "right_1": "right @1", "all_right_1": "of all candidates",
    "right_5": "right @5", "all_right_5": "of all candidates",
    "refused": "unanswered refused", "all_refused": "of all candidates",
}  # fmt: skip


class Found(Protocol):
    """A candidate that was read."""

    @property
    def right(self) -> bool:
        """Whether it answers."""


One = TypeVar("One", bound=Found)


def read_until_sure(
    found: Sequence[One], rule: Rule, sure: Callable[[One], float], outlook: Callable[[One], float]
) -> Sequence[One]:
    """Those of the candidates, best first by retrieval, that are read."""
    now, later = found[: rule.first], found[rule.first :]
    if max(map(sure, now)) > rule.sure:
        return now
    least = max(map(outlook, found)) - rule.behind
    return [*now, *(one for one in later if outlook(one) >= least)]


def table(
    asked: Sequence[tuple[bool, Sequence[One]]],
    sure: Callable[[One], float],
    outlook: Callable[[One], float],
    min_score: float,
    rules: Iterable[Rule] = RULES,
) -> list[dict[str, object]]:
    """A row for each rule. `asked`: whether the articles that were searched answer the question, and all of
    its candidates. `sure`: of one that was read; `outlook`: before it is. Percent of the questions; sentences
    are means."""
    answered = [found for there, found in asked if there]
    others = [found for there, found in asked if not there]

    def right(some: Sequence[Sequence[One]], among: int) -> float:
        best = [sorted(found, key=sure, reverse=True)[:among] for found in some]
        return percent([any(one.right and sure(one) >= min_score for one in each) for each in best])

    def refused(some: Sequence[Sequence[One]]) -> float:
        return percent([max(map(sure, found)) < min_score for found in some])

    def mean(some: Sequence[Sequence[One]]) -> float:
        return sum(map(len, some)) / len(some) if some else 0.0

    rows: list[dict[str, object]] = []
    for rule in rules:
        read = [read_until_sure(found, rule, sure, outlook) for found in answered]
        of_others = [read_until_sure(found, rule, sure, outlook) for found in others]
        rows.append({
            **rule._asdict(),
            "stopped": percent([max(map(sure, found[: rule.first])) > rule.sure for found in answered]),
            "read": mean(read),
            "read_unanswered": mean(of_others),
            "right_1": right(read, 1),
            "all_right_1": right(answered, 1),
            "right_5": right(read, 5),
            "all_right_5": right(answered, 5),
            "refused": refused(of_others),
            "all_refused": refused(others),
        })  # fmt: skip
    return rows
