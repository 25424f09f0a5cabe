"""The batches of each step of a training, made in other processes ahead of time if wanted.

A GPU takes them faster than one process makes them. They are the same, and in the same order, however many
processes there are.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from keymiss.models.question_store import Store
from keymiss.models.split_pairs import Batch, Padding, PairMaker, Stream, batch_of, shared_out

AHEAD = 3  # steps, of each process
MADE_WITHIN_S = 300.0


@dataclass(frozen=True)
class Step:
    """What one step is trained on: batches of about the same work, and how many pairs are in them."""

    batches: list[Batch]
    pairs: int


@dataclass(frozen=True)
class Making:
    """How steps are made of the store in `path`: `marks` are [CLS] and [SEP]; `parts`: batches of a step."""

    path: Path
    marks: tuple[int, int]
    parts: int
    padding: Padding


class Maker:
    """Makes the steps that a Stream has drawn."""

    def __init__(self, making: Making, store: Store | None = None) -> None:
        self._making = making
        self._pairs = PairMaker(store or Store.load(making.path), *making.marks)

    def step(self, rng: random.Random, groups: Sequence[Sequence[int]]) -> Step:
        """The batches of these questions."""
        pairs = self._pairs.of_step(rng, groups)
        parts = shared_out(pairs, self._making.parts)
        return Step([batch_of(part, self._making.padding) for part in parts], sum(map(len, pairs)))


class Steps:
    """The steps of a training. `processes`: that make them; with 0 they are made when they are asked for."""

    def __init__(self, making: Making, store: Store, stream: Stream, processes: int) -> None:
        self._stream, self._pool, self._ahead = stream, None, processes * AHEAD
        if processes:
            self._pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (making,))
        else:
            self._maker = Maker(making, store)

    def taken(self, shares: dict[str, float], count: int) -> Iterator[Step]:
        """The next `count` steps."""
        if self._pool is None:
            for _ in range(count):
                yield self._maker.step(*self._stream.drawn(shares))
            return
        waiting: deque[Future[Step]] = deque()
        for _ in range(count):
            waiting.append(self._pool.submit(_make, *self._stream.drawn(shares)))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result(MADE_WITHIN_S)
        while waiting:
            yield waiting.popleft().result(MADE_WITHIN_S)

    def close(self) -> None:
        """End the processes."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


_MAKERS: list[Maker] = []  # of this process


def _begin(making: Making) -> None:
    _MAKERS.append(Maker(making))


def _make(rng: random.Random, groups: list[list[int]]) -> Step:
    return _MAKERS[0].step(rng, groups)
