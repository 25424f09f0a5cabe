"""States of sentences: kept in 8 bits, made of several sentences at once, used where they fit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from keymiss.pipeline.states import (
    SplitRun,
    States,
    from_tensor,
    max_state_tokens,
    state_mark,
    text_states,
    to_tensor,
)
from keymiss.reading.batches import MAX_TEXTS
from keymiss.reading.reader import About, Ids, Inputs
from keymiss.reading.tensors import Tensor

WIDTH = 6


def test_a_number_is_off_by_half_a_step_of_its_token_at_most() -> None:
    states = np.random.default_rng(1).normal(0, 2, (40, 384)).astype(np.float32)
    states[3] *= 100
    tensor = to_tensor(states)
    assert (tensor.type_name, tensor.dims) == ("INT8", (40, 388))
    off = np.abs(from_tensor(tensor) - states).max(1)
    assert (off <= np.abs(states).max(1) / 127 / 2 * 1.001).all()
    assert off[0] > 0


def test_a_token_of_zeros() -> None:
    assert (from_tensor(to_tensor(np.zeros((2, 8), np.float32))) == 0).all()


@pytest.mark.parametrize(
    "array", [np.zeros((2, 4), np.int8), np.zeros((2, 8), np.float32), np.zeros(8, np.int8)]
)
def test_other_tensors_are_no_states(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not states"):
        from_tensor(Tensor(array))


class Lower:
    """States are the token's id, and 100 more for a text's; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Ids, Ids]] = []

    async def __call__(self, ids: Ids, mask: Ids, types: Ids) -> States:
        self.asked.append((ids, mask))
        assert (ids[mask == 0] == 0).all()
        return np.repeat((ids + 100 * types)[..., None], WIDTH, 2).astype(np.float32)


def collected(ids: Sequence[Ids], lower: Lower) -> dict[int, States]:
    async def run() -> dict[int, States]:
        return {place: states async for some in text_states(ids, lower) for place, states in some}

    return asyncio.run(run())


def test_texts_are_run_together_with_those_of_like_length() -> None:
    lengths = [9, 3, 30, 4, *[5] * 16]
    ids = [np.full(length, place + 1, np.int64) for place, length in enumerate(lengths)]
    lower = Lower()
    states = collected(ids, lower)
    assert sorted(states) == list(range(20))
    for place, one in states.items():
        assert one.shape == (lengths[place], WIDTH)
        assert (one == place + 101).all()
    assert [asked.shape for asked, _ in lower.asked] == [(2, 4), (MAX_TEXTS, 5), (1, 9), (1, 30)]
    assert collected([], lower) == {}


def inputs_of(windows: int) -> Inputs:
    ids = np.tile(np.arange(1, 8), (windows, 1))
    types = np.zeros_like(ids)
    types[:, 3:] = 1
    return Inputs(ids, np.ones_like(ids), types, np.zeros((windows, 7, 2), np.int64))


def split_run(lower: Lower, text: States | None) -> tuple[SplitRun, list[States], list[States]]:
    made: list[States] = []
    upper_got: list[States] = []

    async def question(ids: Ids) -> States:
        assert ids.tolist() == [1, 2, 3]
        return np.full((3, WIDTH), 7, np.float32)

    async def upper(states: States, mask: Ids) -> Sequence[np.ndarray]:
        upper_got.append(states)
        assert mask.shape == states.shape[:2]
        return [states[..., 0], states[..., 0], states[:, 0, 0]]

    return SplitRun(question, lower, upper, text, made.append), made, upper_got


def test_kept_states_are_used_and_nothing_is_made() -> None:
    lower, text = Lower(), np.full((4, WIDTH), 9, np.float32)
    run, made, got = split_run(lower, text)
    start, _, relevance = asyncio.run(run(inputs_of(1)))
    assert (lower.asked, made) == ([], [])
    assert start.tolist() == [[7, 7, 7, 9, 9, 9, 9]]
    assert relevance.shape == (1,)
    assert got[0].shape == (1, 7, WIDTH)


@pytest.mark.parametrize("text", [None, np.zeros((9, WIDTH), np.float32)])
def test_missing_states_and_those_of_another_length_are_made(text: States | None) -> None:
    lower = Lower()
    run, made, _ = split_run(lower, text)
    start, _, _ = asyncio.run(run(inputs_of(1)))
    assert start.tolist() == [[7, 7, 7, 104, 105, 106, 107]]
    assert [one.shape for one in made] == [(1, 4, WIDTH)]


def test_windows_of_a_long_text_are_made_whatever_is_kept() -> None:
    lower = Lower()
    run, made, _ = split_run(lower, np.zeros((4, WIDTH), np.float32))
    start, _, _ = asyncio.run(run(inputs_of(3)))
    assert start.shape == (3, 7)
    assert made[0].shape == (3, 4, WIDTH)


def test_the_mark_is_of_sentence_and_model() -> None:
    marks = {state_mark(text, model) for text in ("a", "b") for model in ("1" * 64, "2" * 64)}
    assert len(marks) == 4
    assert {len(mark) for mark in marks} == {33}


def test_states_are_kept_of_what_fits_beside_the_longest_question() -> None:
    assert max_state_tokens(About("m", "float32", "", 10, 499)) == 433
