"""What is saved and lost when reading ends at a sure answer."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from keymiss.models import early_stops
from keymiss.models.early_stops import Rule


@dataclass(frozen=True)
class One:
    score: float
    right: bool = False
    before: float = 0.0


def score(one: One) -> float:
    return one.score


def before(one: One) -> float:
    return one.before


def read(found: list[One], first: int, sure: float, behind: float = inf) -> list[One]:
    return list(early_stops.read_until_sure(found, Rule(first, sure, behind), score, before))


SURE_AND_RIGHT = [One(0.1), One(0.97, right=True), *[One(0.2)] * 18]
SURE_AND_WRONG = [One(0.93), *[One(0.2)] * 18, One(0.99, right=True)]
LATE = [*[One(0.2)] * 7, One(0.7, right=True), *[One(0.2)] * 12]
UNSURE = [One(0.2, right=True)] * 20


def test_the_others_are_read_where_none_is_sure() -> None:
    assert len(read(SURE_AND_RIGHT, 4, 0.9)) == 4
    assert len(read(SURE_AND_RIGHT, 4, 0.97)) == 20, "more than it, not as much"
    assert len(read(LATE, 4, 0.9)) == 20


def test_those_far_behind_are_not() -> None:
    near, far = One(0.2, before=-2.0), One(0.3, before=-2.1)
    first = [far, One(0.1, before=0.0)]
    assert read([*first, far, near, far], 2, 0.9, 2.0) == [*first, near]
    assert read([*first, far, near, far], 2, 0.9) == [*first, far, near, far]


def test_a_row_for_each_rule() -> None:
    asked = [(True, some) for some in (SURE_AND_RIGHT, SURE_AND_WRONG, LATE, UNSURE)]
    asked += [(False, UNSURE), (False, SURE_AND_WRONG)]
    made = early_stops.table(asked, score, before, 0.3)
    rows = {Rule(row["first"], row["sure"], row["behind"]): row for row in made}  # type: ignore[arg-type]
    assert tuple(rows) == early_stops.RULES
    assert rows[Rule(4, 0.9, inf)] == {
        "first": 4, "sure": 0.9, "behind": inf, "stopped": 50.0, "read": (4 + 4 + 20 + 20) / 4,
        "read_unanswered": (20 + 4) / 2, "right_1": 50.0, "all_right_1": 75.0, "right_5": 50.0,
        "all_right_5": 75.0, "refused": 50.0, "all_refused": 50.0,
    }  # fmt: skip
    assert rows[Rule(4, 0.95, inf)]["right_1"] == rows[Rule(4, 0.95, inf)]["all_right_1"] == 75.0
    assert rows[Rule(8, 0.9, inf)]["read"] == (8 + 8 + 20 + 20) / 4
