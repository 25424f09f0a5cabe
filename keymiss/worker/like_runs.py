"""For gears functions: what the coroutines of one run ask of a model at the same time is run together, texts
of like length in one batch, where the model's form gains by that and answers do not change.

On a CPU float32 gains a quarter, int8 nothing. In int8 and bfloat16 a text's numbers would depend on its
neighbours; in float32 they are the same but for rounding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from keymiss.pipeline.answers import Logits, Run
from keymiss.reading.backends.base import ModelError
from keymiss.reading.batches import of_like_length
from keymiss.reading.reader import About, Inputs

_Asked = tuple[Inputs, asyncio.Future[Sequence[Logits]]]


def gains_by_batches(about: About) -> bool:
    """Whether a model reads several texts at once faster than each by itself, and the same in them."""
    return about.precision == "float32"


class LikeRuns:
    """A run over one text that waits for those that are asked for at the same time. `processes`: so many
    batches run at once; they are made so small that each process has one."""

    def __init__(self, run: Run, processes: int) -> None:
        self._run, self._processes = run, processes
        self._asked: list[_Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, inputs: Inputs) -> Sequence[Logits]:
        """As of `run`. A text of several windows is a batch by itself."""
        if len(inputs.input_ids) > 1:
            return await self._run(inputs)
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._start)  # behind all coroutines that can go on now
        ended: asyncio.Future[Sequence[Logits]] = loop.create_future()
        self._asked.append((inputs, ended))
        return await ended

    def _start(self) -> None:
        asked, self._asked = self._asked, []
        at_most = -(-len(asked) // self._processes)
        batches = list(of_like_length([_length(inputs) for inputs, _ in asked], at_most))
        for batch in reversed(batches):  # the longest first: at the end no process waits long for another
            task = asyncio.ensure_future(self._run_batch([asked[place] for place in batch]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_batch(self, batch: Sequence[_Asked]) -> None:
        outcomes: Sequence[Sequence[Logits] | Exception]
        try:
            if len(batch) == 1:
                outcomes = [await self._run(batch[0][0])]
            else:
                made = await self._run(Inputs.together([inputs for inputs, _ in batch]))
                outcomes = [_rows(made, row, _length(inputs)) for row, (inputs, _) in enumerate(batch)]
        except ModelError as error:
            if len(batch) > 1:
                for one in batch:  # one of them may be why
                    await self._run_batch([one])
                return
            outcomes = [error]
        except Exception as error:
            outcomes = [error] * len(batch)
        for one, outcome in zip(batch, outcomes, strict=True):
            _end(one, outcome)


def _length(inputs: Inputs) -> int:
    length: int = inputs.input_ids.shape[1]
    return length


def _rows(made: Sequence[Logits], row: int, length: int) -> list[Logits]:
    """Those of one text: [1, length] of its tokens."""
    return [logits[row : row + 1, :length] for logits in made]


def _end(asked: _Asked, outcome: Sequence[Logits] | Exception) -> None:
    ended = asked[1]
    if ended.done():  # cancelled
        return
    if isinstance(outcome, Exception):
        ended.set_exception(outcome)
    else:
        ended.set_result(outcome)
