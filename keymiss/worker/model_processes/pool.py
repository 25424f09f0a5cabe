"""Gives model runs to runners, as many at once as there are cores for.

A runner gets a second run while it does the first, so that it need not wait for this process. A run that
takes too long is ended with its runner. A run over which its runner ends by itself fails. All others go on.
A script that waits for what it asked for leaves its core to another run: what it asked for may be one.
"""

from __future__ import annotations

import queue
import select
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, repeat
from weakref import WeakKeyDictionary

from keymiss.logs import log_event, one_line
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.interruption import Shield
from keymiss.worker.functions.run_terms import RunTerms
from keymiss.worker.metrics import RunEnd, RunnerMetrics
from keymiss.worker.model_processes.asks import ASK, FunctionCall, answer_to
from keymiss.worker.model_processes.forking import ProcessLost
from keymiss.worker.model_processes.frames import RUNS, Frame, FrameError, packed
from keymiss.worker.model_processes.libraries import LoadedModel
from keymiss.worker.model_processes.run_queue import ModelResult, ModelRun, RunQueue
from keymiss.worker.model_processes.runner import Runner

LOOK_S = 0.1
"""How often limits are looked at: a run may take so much longer."""

IDLE_RUNNER_S = 60.0
"""A runner that had nothing to do for so long is ended, but for the last one of a model. Another one is there
in some ten milliseconds."""

ANSWERS_PER_RUN = 4
"""So many things that scripts ask for are done at once, times the size of the pool; others wait."""

ANY_TERMS = RunTerms()


@dataclass(eq=False)
class _Crew:
    """The runners of one model."""

    idle: list[Runner] = field(default_factory=list)
    busy: list[Runner] = field(default_factory=list)
    starting: int = 0


class ModelPool:
    """`size` runs at once, of all models together. `limit_s`: of a run whose job has no limit of its own.
    `on_dead` is told when it can do no more."""

    def __init__(
        self, size: int, limit_s: float, metrics: RunnerMetrics, on_dead: Callable[[str], None]
    ) -> None:
        self.size, self._limit_s, self._metrics, self._on_dead = size, limit_s, metrics, on_dead
        self._lock = threading.RLock()
        self._queue = RunQueue()
        self._crews: WeakKeyDictionary[LoadedModel, _Crew] = WeakKeyDictionary()
        self._at: dict[int, tuple[Runner, _Crew]] = {}
        self._busy = 0
        self._epoll = select.epoll()
        self._answering = ThreadPoolExecutor(ANSWERS_PER_RUN * size, "script-asks")
        self._errands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def start(self) -> None:
        """Starts its two threads."""
        for body, name in ((self._read_results, "model-runs"), (self._do_errands, "model-runners")):
            threading.Thread(target=self._until_dead, args=(body,), name=name, daemon=True).start()

    def _until_dead(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            self._on_dead(f"{threading.current_thread().name} thread: {one_line(error)}")

    def runners(self) -> int:
        """How many there are."""
        return len(self._at)

    def submit(
        self,
        model: LoadedModel,
        inputs: Sequence[Tensor],
        terms: RunTerms = ANY_TERMS,
        call: FunctionCall | None = None,
    ) -> Future[ModelResult]:
        """The future ends with a result or a ModelError. `call`: which function of a script is called."""
        try:
            fields = call.fields() if call is not None else {}
            run = ModelRun(model, packed(fields, inputs), terms, call.calls if call is not None else None)
        except FrameError as error:
            return _too_large(model, terms, error)
        return self._queued(run)

    def submit_in_turn(
        self, model: LoadedModel, many: Sequence[Sequence[Tensor]], terms: RunTerms
    ) -> Future[ModelResult]:
        """The same of several runs, which one process does one after the other. If one of them fails, or they
        take too long together, all do."""
        try:
            buffers = packed({RUNS: len(many)}, [tensor for inputs in many for tensor in inputs])
        except FrameError as error:
            return _too_large(model, terms, error)
        return self._queued(ModelRun(model, buffers, terms, count=len(many)))

    def pending(self) -> int:
        """So many runs were asked for and have not ended."""
        with Shield(), self._lock:
            given = (run for runner, _ in self._at.values() for run in runner.runs)
            return sum(run.count for run in chain(self._queue, given))

    def _queued(self, run: ModelRun) -> Future[ModelResult]:
        with Shield(), self._lock:
            self._queue.add(run)
            self._give()
        return run.future

    def _give(self) -> None:
        """Runs that wait get the runners that are free."""
        with self._lock:
            without: set[LoadedModel] = set()
            while self._busy < self.size and self._queue.take(lambda run: self._given_to_idle(run, without)):
                pass
            if self._busy >= self.size:
                first = next(iter(self._queue), None)
                if first is not None and self._given_as_second(first):
                    self._queue.take(lambda run: run is first)

    def _given_to_idle(self, run: ModelRun, without: set[LoadedModel]) -> bool:
        """True when the run need not wait any more. `without`: models that have no idle runner."""
        if run.model in without:
            return False
        if run.model.lost:
            run.failed("the model's process ended: ask again")
            return True
        crew = self._crews.setdefault(run.model, _Crew())
        if not crew.idle:
            without.add(run.model)
            self._want_runner(run.model, crew)
            return False
        if run.begins():
            self._send(crew.idle.pop(), crew, run)
        return True

    def _send(self, runner: Runner, crew: _Crew, run: ModelRun) -> None:
        crew.busy.append(runner)
        self._busy += 1
        runner.send(run)
        self._watch(runner)

    def _given_as_second(self, run: ModelRun) -> bool:
        crew = self._crews.get(run.model)
        ready = [runner for runner in crew.busy if runner.takes_second(run)] if crew else []
        if not ready:
            return False
        if run.begins():
            runner = min(ready, key=lambda one: one.began_s)
            runner.send(run)
            self._watch(runner)
        return True

    def _watch(self, runner: Runner) -> None:
        if runner.unsent:
            self._epoll.modify(runner.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    # ---- results, and limits

    def _read_results(self) -> None:
        look_at_s = 0.0
        while True:
            for number, happened in self._epoll.poll(LOOK_S):
                with self._lock:
                    runner, crew = self._at.get(number, (None, None))
                if runner is None or crew is None:
                    continue
                if happened & select.EPOLLOUT:
                    with self._lock:
                        runner.send_more()
                        if not runner.unsent:
                            self._epoll.modify(number, select.EPOLLIN)
                if happened & ~select.EPOLLOUT:
                    self._read(runner, crew)
            now_s = time.monotonic()
            if now_s >= look_at_s:
                look_at_s = now_s + LOOK_S
                self._end_overdue(now_s)
                self._end_idle(now_s)

    def _read(self, runner: Runner, crew: _Crew) -> None:
        try:
            for was_read in chain((False,), repeat(True)):
                with self._lock:
                    ended = runner.result(was_read=was_read)
                    if ended is None:
                        return
                    if runner.asking:
                        self._busy -= 1
                    elif not runner.runs:
                        crew.busy.remove(runner)
                        crew.idle.append(runner)
                        self._busy -= 1
                    self._give()
                run, frame = ended
                if ASK in frame.fields:
                    self._answering.submit(self._answer, runner, run, frame)
                elif "error" in frame.fields:
                    run.failed(frame.fields["error"], frame.fields.get("reason"))
                else:
                    run.model.took(frame.fields["took_us"])
                    run.done(frame.tensors, frame.fields["took_us"])
        except (EOFError, OSError, FrameError):
            self._gone(runner, crew, "")

    def _answer(self, runner: Runner, run: ModelRun, ask: Frame) -> None:
        assert run.calls is not None
        buffers = answer_to(run.calls, ask)
        with self._lock:
            if runner.socket.fileno() in self._at:  # else it was ended meanwhile
                self._busy += 1
                runner.answer(buffers)
                self._watch(runner)

    def _end_overdue(self, now_s: float) -> None:
        with self._lock:
            busy = [(runner, crew) for runner, crew in self._at.values() if runner.runs]
            late = [one for one in busy if now_s > self._end_of(one[0].runs[0].terms, one[0].began_s)]
            waiting = [run for run in self._queue if now_s > (run.terms.ends_at_s or now_s)]
            for run in waiting:
                self._queue.take(lambda one, run=run: one is run)  # type: ignore[misc]
        for run in waiting:
            run.failed(f"no model process was free in time: {run.terms.setting}")
        for runner, crew in late:
            limit = runner.runs[0].terms.setting or f"--model-limit-s of the worker, {self._limit_s:g} s"
            self._gone(runner, crew, f"the {runner.runs[0].what} run took too long and was ended: {limit}")

    def _end_idle(self, now_s: float) -> None:
        with self._lock:
            spare = [
                (crew.idle[0], crew)  # it was used before the others
                for crew in self._crews.values()
                if crew.idle
                and len(crew.idle) + len(crew.busy) > 1
                and now_s - crew.idle[0].began_s > IDLE_RUNNER_S
            ]
        for runner, crew in spare:
            self._gone(runner, crew, "")

    def _end_of(self, terms: RunTerms, began_s: float) -> float:
        return terms.ends_at_s or began_s + self._limit_s

    def _gone(self, runner: Runner, crew: _Crew, overdue: str) -> None:
        """It is to be ended, or has ended. The run that it did fails, the one after it goes to another."""
        with self._lock:
            if self._at.pop(runner.socket.fileno(), None) is None:
                return
            self._epoll.unregister(runner.socket.fileno())
            (crew.busy if runner in crew.busy else crew.idle).remove(runner)
            first = runner.runs.popleft() if runner.runs else None
            if first is not None and not runner.asking:
                self._busy -= 1
            self._queue.add_first(runner.runs)
            self._give()
        self._errands.put(lambda: self._end(runner, first, overdue))

    # ---- processes come and go: that may take a while

    def _do_errands(self) -> None:
        while True:
            self._errands.get()()

    def _want_runner(self, model: LoadedModel, crew: _Crew) -> None:
        wanted = sum(run.model is model for run in self._queue)
        if crew.starting < wanted and len(crew.busy) + crew.starting < self.size:
            crew.starting += 1
            self._errands.put(lambda: self._start_runner(model, crew))

    def _start_runner(self, model: LoadedModel, crew: _Crew) -> None:
        try:
            runner = Runner(model.process, *model.process.fork())
        except ProcessLost:
            runner = None
        with self._lock:
            crew.starting -= 1
            if runner is None:
                model.lost = True
            else:
                number = runner.socket.fileno()
                self._at[number] = runner, crew
                crew.idle.append(runner)
                self._epoll.register(number, select.EPOLLIN)
                self._metrics.started()
            self._give()

    def _end(self, runner: Runner, run: ModelRun | None, overdue: str) -> None:
        try:
            how = runner.end()
        except ProcessLost:
            how = "the model's process ended"
        if run is None:
            return
        self._metrics.ended(RunEnd.OVERDUE if overdue else RunEnd.CRASHED)
        text = overdue or f"the process ended in the {run.what} run: {how}"
        log_event("model_run_ended", "warning", error=text)
        run.failed(text)


def _too_large(model: LoadedModel, terms: RunTerms, error: FrameError) -> Future[ModelResult]:
    run = ModelRun(model, [], terms)
    run.failed(f"the model run failed: {error}")
    return run.future
