"""What is asked of a model at the same time is run together, texts of like length in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

import numpy as np
import pytest

from keymiss.pipeline.answers import Logits, Run
from keymiss.reading.backends.base import ModelError
from keymiss.reading.reader import About, Inputs
from keymiss.worker.like_runs import (
    LikeRuns,
    as_a_batch,
    for_each_process,
    gains_by_batches,
    tokens_of,
    while_others_wait,
    windows_alone,
)


def inputs_of(ids: Sequence[int]) -> Inputs:
    row = np.array([ids], np.int64)
    return Inputs(row, np.ones_like(row), np.zeros_like(row), np.zeros((*row.shape, 2), np.int64))


class Model:
    """Its logits are the ids, and the ids negated; it fails over a text with the id 13."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []
        self.began = asyncio.Event()

    async def __call__(self, inputs: Inputs) -> Sequence[Logits]:
        self.runs.append(inputs.input_ids.shape)
        self.began.set()
        assert ((inputs.input_ids == 0) == (inputs.attention_mask == 0)).all()
        await asyncio.sleep(0)
        if (inputs.input_ids == 13).any():
            raise ModelError("an id of bad luck")
        return [inputs.input_ids, -inputs.input_ids]


TextRuns = LikeRuns[Inputs, Sequence[Logits]]


def batches(run: Run, processes: int) -> TextRuns:
    return LikeRuns(run, as_a_batch(run), for_each_process(processes), tokens_of)


async def outcomes(runs: TextRuns, texts: Sequence[Sequence[int]]) -> list[Sequence[Logits] | BaseException]:
    return await asyncio.gather(*(runs(inputs_of(text)) for text in texts), return_exceptions=True)


@pytest.mark.parametrize("processes", [1, 2, 8])
async def test_each_gets_what_it_would_get_alone(processes: int) -> None:
    lengths = [7, 3, 8, 8, 30, 7, 31, 29, 7]
    texts = [list(range(100 * at + 1, 100 * at + length + 1)) for at, length in enumerate(lengths)]
    model = Model()
    for text, made in zip(texts, await outcomes(batches(model, processes), texts), strict=True):
        assert not isinstance(made, BaseException)
        starts, ends = made
        assert starts.tolist() == [text]
        assert ends.tolist() == [[-one for one in text]]
    assert sum(rows for rows, _ in model.runs) == len(texts)
    assert all(rows <= -(-len(texts) // processes) for rows, _ in model.runs)
    tokens = [length for _, length in model.runs]
    assert tokens == sorted(tokens, reverse=True)


async def test_texts_of_like_length_are_one_run() -> None:
    model = Model()
    await outcomes(batches(model, 1), [[5] * 20, [5] * 4, [5] * 19, [5] * 20])
    assert model.runs == [(3, 20), (1, 4)]


async def test_those_that_are_asked_for_later_are_another_run() -> None:
    model = Model()
    runs = batches(model, 1)
    first = asyncio.ensure_future(outcomes(runs, [[5] * 9] * 2))
    await model.began.wait()
    await outcomes(runs, [[5] * 9] * 3)
    await first
    assert model.runs == [(2, 9), (3, 9)]


async def test_one_that_fails_fails_alone() -> None:
    model = Model()
    first, second, third = await outcomes(batches(model, 1), [[5] * 9, [13] * 9, [5] * 9])
    assert isinstance(second, ModelError)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert model.runs == [(3, 9), (1, 9), (1, 9), (1, 9)]


async def test_what_is_no_logits_is_an_error_of_each_and_nobody_waits_for_ever() -> None:
    async def nonsense(inputs: Inputs) -> Sequence[Logits]:
        return [np.float32(1.0)]  # type: ignore[list-item]

    got = await asyncio.wait_for(outcomes(batches(nonsense, 1), [[5] * 9] * 2), 10)
    assert all(isinstance(one, IndexError) for one in got)


async def test_who_waits_hears_that_the_function_is_ended() -> None:
    class Ended(BaseException):
        pass

    async def ends(inputs: Inputs) -> Sequence[Logits]:
        raise Ended

    got = await asyncio.wait_for(outcomes(batches(ends, 1), [[5] * 9] * 2), 10)
    assert all(isinstance(one, Ended) for one in got)


async def test_who_waits_is_cancelled_with_the_run() -> None:
    model = Model()
    runs = batches(model, 1)
    waits = [asyncio.ensure_future(runs(inputs_of([5] * 9))) for _ in range(2)]
    await model.began.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task(), *waits}:
        task.cancel()
    got = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 10)
    assert all(isinstance(one, asyncio.CancelledError) for one in got)


async def test_one_that_is_given_up_takes_nobody_with_it() -> None:
    model = Model()
    runs = batches(model, 1)
    given_up, stays = (asyncio.ensure_future(runs(inputs_of([5] * 9))) for _ in range(2))
    await model.began.wait()
    given_up.cancel()
    assert (await stays)[0].tolist() == [[5] * 9]


async def test_when_all_have_given_up_the_run_is_given_up() -> None:
    began, given_up = asyncio.Event(), asyncio.Event()

    async def endless(inputs: Inputs) -> Sequence[Logits]:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.set()
            raise
        return []

    runs = batches(endless, 1)
    first, second = (asyncio.ensure_future(runs(inputs_of([5] * 9))) for _ in range(2))
    await began.wait()
    first.cancel()
    await asyncio.wait([first])
    assert not given_up.is_set()
    second.cancel()
    await asyncio.wait_for(given_up.wait(), 10)


async def test_windows_of_one_text_are_a_batch_by_themselves() -> None:
    model, others = Model(), Model()
    run = windows_alone(model, others)
    await run(Inputs.together([inputs_of([5] * 9), inputs_of([6] * 9)]))
    await run(inputs_of([7] * 9))
    assert (model.runs, others.runs) == ([(2, 9)], [(1, 9)])


def test_rows_that_are_put_together_are_padded_and_masked() -> None:
    made = Inputs.together([inputs_of([5, 6, 7]), inputs_of([8])])
    assert made.input_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert made.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made.offsets[1].tolist() == [[0, 0], [-1, -1], [-1, -1]]


@pytest.mark.parametrize(("precision", "gains"), [("float32", True), ("bfloat16", False), ("int8", False)])
def test_where_neighbours_would_change_an_answer_there_are_none(precision: str, gains: bool) -> None:
    assert gains_by_batches(About("m", precision, "", 100, 512)) is gains


async def test_those_read_in_turn_are_one_request_and_not_padded() -> None:
    model, requests = Model(), []

    async def in_turn(many: Sequence[Inputs]) -> Sequence[Sequence[Logits]]:
        requests.append([one.input_ids.shape[1] for one in many])
        return [await model(one) for one in many]

    runs = LikeRuns(model, in_turn, lambda _asked: 3, tokens_of)
    texts = [[5] * length for length in (9, 10, 9, 9, 40)]
    assert [made[0].tolist() for made in await outcomes(runs, texts)] == [[text] for text in texts]  # type: ignore[index]
    assert requests == [[9, 9, 9]]
    assert model.runs == [(1, 40), (1, 10), (1, 9), (1, 9), (1, 9)]


@pytest.mark.parametrize(
    ("pending", "asked", "run_s", "at_most"),
    [
        (0, 5, 0.016, 0),
        (15, 5, 0.016, 1),
        (36, 12, 0.016, 4),
        (1000, 12, 0.016, 5),
        (1000, 12, 0.3, 0),
        (1000, 12, inf, 0),
        (0, 5, 0.0001, 20),
    ],
)
def test_only_while_others_wait_or_soon_over_do_several_go_together(
    pending: int, asked: int, run_s: float, at_most: int
) -> None:
    assert while_others_wait(lambda: pending, 2, lambda: run_s)(asked) == at_most
