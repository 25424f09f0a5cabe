"""Model runs that wait for a runner."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from keymiss.reading.backends.base import ModelError
from keymiss.reading.backends.torch_script import ScriptCalls
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.run_terms import RunTerms
from keymiss.worker.model_processes.frames import parted
from keymiss.worker.model_processes.libraries import LoadedModel

OTHERS_AFTER = 8
"""So many runs that somebody waits for go before one that nobody waits for."""


@dataclass(frozen=True)
class ModelResult:
    """Outputs of a run, how long the model itself took, and how long the run waited and travelled. Of several
    that went together: the outputs of all, and how long each took."""

    outputs: list[Tensor]
    took_us: list[int]
    queued_us: int

    @property
    def duration_us(self) -> int:
        """Of all."""
        return sum(self.took_us)

    @property
    def outputs_of_each(self) -> list[list[Tensor]]:
        """Of each run its own: all are of one model."""
        return parted(self.outputs, len(self.took_us))


@dataclass(eq=False)
class ModelRun:
    """`buffers`: its inputs as they are sent. `calls`: of a script, what it can ask for. `count`: of a model,
    so many runs that go together."""

    model: LoadedModel
    buffers: list[memoryview]
    terms: RunTerms
    calls: ScriptCalls | None = None
    count: int = 1
    future: Future[ModelResult] = field(default_factory=Future)
    submitted_ns: int = field(default_factory=time.perf_counter_ns)

    @property
    def what(self) -> str:
        """What runs."""
        return "model" if self.calls is None else "script"

    @property
    def size(self) -> int:
        """Bytes of its inputs."""
        return sum(map(len, self.buffers))

    def begins(self) -> bool:
        """False when nobody wants it any more."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def done(self, outputs: list[Tensor], took_us: list[int]) -> None:
        """It succeeded."""
        if not self.future.done():  # else its time was over before
            away_us = (time.perf_counter_ns() - self.submitted_ns) // 1000
            self.future.set_result(ModelResult(outputs, took_us, max(0, away_us - sum(took_us))))

    def failed(self, text: str, reason: str | None = None) -> None:
        """The same, with a ModelError."""
        if not self.future.done() and self.begins():
            self.future.set_exception(ModelError(text, reason))


class RunQueue:
    """Not safe for several threads: the pool has a lock."""

    def __init__(self) -> None:
        self._urgent: deque[ModelRun] = deque()
        self._others: deque[ModelRun] = deque()
        self._urgent_in_a_row = 0

    def __iter__(self) -> Iterator[ModelRun]:
        """In the order in which they should begin."""
        first, then = self._urgent, self._others
        if self._urgent_in_a_row >= OTHERS_AFTER:
            first, then = then, first
        yield from first
        yield from then

    def add(self, run: ModelRun) -> None:
        """At the end."""
        self._part_of(run).append(run)

    def add_first(self, runs: Sequence[ModelRun]) -> None:
        """Those that were taken, and did not begin."""
        for run in reversed(runs):
            self._part_of(run).appendleft(run)

    def take(self, wanted: Callable[[ModelRun], bool]) -> ModelRun | None:
        """The first such, which is in the queue no more."""
        run = next((run for run in self if wanted(run)), None)
        if run is not None:
            self._part_of(run).remove(run)
            self._urgent_in_a_row = self._urgent_in_a_row + 1 if run.terms.urgent else 0
        return run

    def _part_of(self, run: ModelRun) -> deque[ModelRun]:
        return self._urgent if run.terms.urgent else self._others
