"""What a run has measured: figures, what each is compared with, its goal; curves; a question's parts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

Numbers = Sequence[float]


def percentile(numbers: Numbers, percent: float) -> float:
    """The smallest of the numbers that at least so many percent of them do not exceed."""
    ordered = sorted(numbers)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def median_ratio(numbers: Numbers, others: Numbers) -> float:
    """Of runs in pairs: the median of the pairs' ratios, number to other."""
    return statistics.median(one / other for one, other in zip(numbers, others, strict=True))


@dataclass(frozen=True)
class Goal:
    """`measured` is to be `limit` at most, or at least."""

    text: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def at_most(limit: float, measured: float, text: str) -> Goal:
    """A goal that is met by little."""
    return Goal(text, measured, limit)


def at_least(limit: float, measured: float, text: str) -> Goal:
    """A goal that is met by much."""
    return Goal(text, measured, limit, True)


@dataclass(frozen=True)
class Beside:
    """What a figure is compared with, in the figure's unit; `ratio`: the figure to this, of pairs."""

    what: str
    value: float
    ratio: float


def beside(what: str, numbers: Numbers, others: Numbers) -> Beside:
    """Of runs in pairs."""
    return Beside(what, statistics.median(others), median_ratio(numbers, others))


@dataclass(frozen=True)
class Row:
    """A figure: `value` of `runs` runs, and the least and most of them."""

    section: str
    what: str
    value: float
    unit: str
    least: float
    most: float
    runs: int
    beside: Beside | None = None
    goal: Goal | None = None
    note: str = ""

    @classmethod
    def of(
        cls,
        section: str,
        what: str,
        unit: str,
        numbers: Numbers,
        *,
        value: float | None = None,
        beside: Beside | None = None,
        goal: Goal | None = None,
        note: str = "",
    ) -> Self:
        """`value`: another figure of the runs than their median."""
        middle = statistics.median(numbers) if value is None else value
        return cls(section, what, middle, unit, min(numbers), max(numbers), len(numbers), beside, goal, note)


@dataclass(frozen=True)
class Point:
    """Of a curve: at `x`, the time of a question in ms, and, where it was measured, that of the raw forward
    of the same sentences, and the whole replies a second."""

    x: float
    p50_ms: float
    p99_ms: float
    raw_ms: float | None = None
    whole_per_s: float | None = None
    refused_per_s: float | None = None


@dataclass
class Results:
    """Of a run. `curves`: by what grows; `stages`: ms of each part of a fresh question, in order."""

    machine: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)

    def add(self, *rows: Row) -> None:
        """More figures."""
        self.rows += rows

    def row(self, section: str, beginning: str) -> Row | None:
        """The first one of a section whose name begins so."""
        return next(
            (one for one in self.rows if one.section == section and one.what.startswith(beginning)), None
        )

    def save(self, path: Path) -> None:
        """As JSON, with whether each goal is met."""
        made = asdict(self)
        for row, one in zip(self.rows, made["rows"], strict=True):
            if row.goal:
                one["goal"]["met"] = row.goal.met
        path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `save` wrote."""
        made = json.loads(path.read_text(encoding="utf-8"))
        for one in made["rows"]:
            if one["goal"]:
                del one["goal"]["met"]
                one["goal"] = Goal(**one["goal"])
            one["beside"] = one["beside"] and Beside(**one["beside"])
        rows = [Row(**one) for one in made["rows"]]
        curves = {name: [Point(**one) for one in points] for name, points in made["curves"].items()}
        return cls(made["machine"], made["options"], rows, curves, made["stages"])
