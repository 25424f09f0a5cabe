"""Which slots go where when masters join and leave."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from keymiss.cluster.slot_moves import even_moves
from keymiss.cluster.topology import Slots
from keymiss.keys import SLOTS


def ranges(slots: list[int]) -> Slots:
    return tuple((slot, slot) for slot in sorted(slots))


@given(st.lists(st.integers(0, 5), min_size=60, max_size=60), st.integers(1, 6))
def test_all_are_even_and_nothing_moves_in_vain(owners: list[int], stay: int) -> None:
    slots = {f"m{i}": ranges([slot for slot, of in enumerate(owners) if of == i]) for i in range(6)}
    staying = [f"m{i}" for i in range(stay)]
    moves = even_moves(slots, staying)
    assert len({move.slot for move in moves}) == len(moves)
    now = [f"m{of}" for of in owners]
    for move in moves:
        assert now[move.slot] == move.source
        now[move.slot] = move.to
    counts = Counter(now)
    assert set(counts) == set(staying)
    assert max(counts.values()) - min(counts.values()) <= 1
    before = Counter(f"m{of}" for of in owners)
    assert len(moves) == sum(max(0, before[id_] - counts[id_]) for id_ in before)


def test_a_fifth_master_takes_the_highest_of_each() -> None:
    slots: dict[str, Slots] = {f"m{i}": ((i * 4096, i * 4096 + 4095),) for i in range(4)} | {"new": ()}
    moves = even_moves(slots, list(slots))
    assert len(moves) == SLOTS // 5
    assert {move.to for move in moves} == {"new"}
    assert all(move.slot % 4096 > 3200 for move in moves)
    runs = [move for before, move in pairwise(moves) if move.slot != before.slot + 1]
    assert len(runs) == 3


def test_even_ones_stay() -> None:
    slots: dict[str, Slots] = {"a": ((0, 8191),), "b": ((8192, 16383),)}
    assert even_moves(slots, ["a", "b"]) == []
