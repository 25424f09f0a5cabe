"""What is saved and lost when reading ends at a sure answer."""

from __future__ import annotations

from dataclasses import dataclass

from keymiss.models import early_stops


@dataclass(frozen=True)
class One:
    score: float
    right: bool = False


def score(one: One) -> float:
    return one.score


SURE_AND_RIGHT = [One(0.1), One(0.97, right=True), *[One(0.2)] * 18]
SURE_AND_WRONG = [One(0.93), *[One(0.2)] * 18, One(0.99, right=True)]
LATE = [*[One(0.2)] * 7, One(0.7, right=True), *[One(0.2)] * 12]
UNSURE = [One(0.2, right=True)] * 20


def test_the_others_are_read_where_none_is_sure() -> None:
    assert len(early_stops.read_until_sure(SURE_AND_RIGHT, 4, 0.9, score)) == 4
    assert len(early_stops.read_until_sure(SURE_AND_RIGHT, 4, 0.97, score)) == 20, "more than it, not as much"
    assert len(early_stops.read_until_sure(LATE, 4, 0.9, score)) == 20


def test_a_row_for_each_rule() -> None:
    asked = [(True, some) for some in (SURE_AND_RIGHT, SURE_AND_WRONG, LATE, UNSURE)]
    asked += [(False, UNSURE), (False, SURE_AND_WRONG)]
    rows = {(row["first"], row["sure"]): row for row in early_stops.table(asked, score, 0.3)}
    assert len(rows) == len(early_stops.FIRST) * len(early_stops.SURE_SCORES)
    assert rows[4, 0.9] == {
        "first": 4, "sure": 0.9, "stopped": 50.0, "read": (4 + 4 + 20 + 20) / 4,
        "right_1": 50.0, "all_right_1": 75.0, "refused": 50.0, "all_refused": 50.0,
    }  # fmt: skip
    assert rows[4, 0.95]["right_1"] == rows[4, 0.95]["all_right_1"] == 75.0
    assert rows[8, 0.9]["read"] == (8 + 8 + 20 + 20) / 4
