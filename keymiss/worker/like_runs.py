"""What the coroutines of one run ask of a model at the same time goes to it together, texts of like length:
as one batch where the model's form gains by that and answers do not change, else one after the other in one
request.

On a CPU float32 gains a quarter by a batch, int8 nothing. In int8 and bfloat16 a text's numbers would depend
on its neighbours; in float32 they are the same but for rounding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from keymiss.pipeline.answers import Logits, Run
from keymiss.reading.backends.base import ModelError
from keymiss.reading.batches import of_like_length
from keymiss.reading.reader import About, Inputs

IN_TURN_S = 0.08
"""A request of several runs takes no longer: what is urgent waits for its end."""

REQUESTS_EACH = 6
"""So many are left for each process at least, before runs go together..."""

QUICK_S = 0.002
"""...for longer than this."""

Item = TypeVar("Item")
Made = TypeVar("Made")

Together = Callable[[Sequence[Item]], Awaitable[Sequence[Made]]]
"""What a model makes of each of several; or a ModelError, and nothing."""


def gains_by_batches(about: About) -> bool:
    """Whether a model reads several texts at once faster than each by itself, and the same in them."""
    return about.precision == "float32"


def as_a_batch(run: Run) -> Together[Inputs, Sequence[Logits]]:
    """By one run over all of them: the logits of each text, each [1, tokens]."""

    async def together(many: Sequence[Inputs]) -> Sequence[Sequence[Logits]]:
        made = await run(Inputs.together(many))
        return [_rows(made, row, tokens_of(inputs)) for row, inputs in enumerate(many)]

    return together


def windows_alone(run: Run, others: Run) -> Run:
    """A text of several windows is a batch by itself, and is left to `run`."""

    async def either(inputs: Inputs) -> Sequence[Logits]:
        return await (others if len(inputs.input_ids) == 1 else run)(inputs)

    return either


def for_each_process(processes: int) -> Callable[[int], int]:
    """How many go together of so many: each process is to have a part."""
    return lambda asked: -(-asked // processes)


def while_others_wait(
    pending: Callable[[], int], processes: int, run_s: Callable[[], float]
) -> Callable[[int], int]:
    """The same, of runs of about `run_s` that go one after the other: with those that are `pending`
    REQUESTS_EACH are left. With fewer, one process would be the last at work for long."""

    def at_most(asked: int) -> int:
        left = (pending() + asked) // (REQUESTS_EACH * processes)
        return int(min(max(left, QUICK_S / run_s()), IN_TURN_S / run_s()))

    return at_most


class LikeRuns(Generic[Item, Made]):
    """A run of a model that waits for those that are asked for at the same time. `together` does several of
    like size, `at_most` says how many."""

    def __init__(
        self,
        run: Callable[[Item], Awaitable[Made]],
        together: Together[Item, Made],
        at_most: Callable[[int], int],
        size: Callable[[Item], int],
    ) -> None:
        self._run, self._together, self._at_most, self._size = run, together, at_most, size
        self._asked: list[tuple[Item, asyncio.Future[Made]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Item) -> Made:
        """As of `run`."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._start)  # behind all coroutines that can go on now
        ended: asyncio.Future[Made] = loop.create_future()
        self._asked.append((item, ended))
        return await ended

    def _start(self) -> None:
        asked, self._asked = self._asked, []
        sizes = [self._size(item) for item, _ in asked]
        batches = list(of_like_length(sizes, self._at_most(len(asked))))
        for batch in reversed(batches):  # the longest first: at the end no process waits long for another
            mine = [asked[place] for place in batch]
            task = asyncio.ensure_future(self._run_batch(mine))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            for _, ended in mine:
                ended.add_done_callback(partial(_give_up, task, mine))

    async def _run_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Made]]]) -> None:
        outcomes: Sequence[Made | BaseException]
        try:
            if len(batch) == 1:
                outcomes = [await self._run(batch[0][0])]
            else:
                outcomes = await self._together([item for item, _ in batch])
        except ModelError as error:
            if len(batch) > 1:
                for one in batch:  # one of them may be why
                    await self._run_batch([one])
                return
            outcomes = [error]
        except asyncio.CancelledError:
            for _, ended in batch:
                ended.cancel()
            raise
        except BaseException as error:  # also that the function is ended: nobody waits on
            outcomes = [error] * len(batch)
        for (_, ended), outcome in zip(batch, outcomes, strict=True):
            _end(ended, outcome)


def tokens_of(inputs: Inputs) -> int:
    """Of each of its rows, with the padding."""
    length: int = inputs.input_ids.shape[1]
    return length


def _rows(made: Sequence[Logits], row: int, length: int) -> list[Logits]:
    """Those of one text: [1, length] of its tokens."""
    return [logits[row : row + 1, :length] for logits in made]


def _give_up(task: asyncio.Task[None], batch: Sequence[tuple[Item, asyncio.Future[Made]]], _: object) -> None:
    """When nobody waits for it any more."""
    if all(ended.cancelled() for _, ended in batch):
        task.cancel()


def _end(ended: asyncio.Future[Made], outcome: Made | BaseException) -> None:
    if ended.done():  # cancelled
        return
    if isinstance(outcome, BaseException):
        ended.set_exception(outcome)
    else:
        ended.set_result(outcome)
