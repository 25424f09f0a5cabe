"""The threads that run jobs.

`size` runs go on at once: one job each, or misses whose function takes several. While one waits for another
job (see `waiting`), it does not count, and one more thread may work: else functions that ask for misses could
take every thread and wait for each other for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

from keymiss.logs import one_line
from keymiss.worker.job import Job, Run

MAX_WAITING = 64
"""Threads beyond `size`; a script that nests deeper gets its own time limit instead."""


class JobPool:
    """`handle` does one run and must not raise; if it does, `on_dead` is told."""

    def __init__(self, size: int, handle: Callable[[Run], None], on_dead: Callable[[str], None]) -> None:
        self._size = size
        self._handle = handle
        self._on_dead = on_dead
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._queue: deque[Run] = deque()
        self._running: set[Run] = set()
        self._waiting = 0
        self._idle: list[threading.Condition] = []  # of each idle thread its own; the last one is woken first
        self._woken = 0  # on their way, and idle no more
        self._threads = 0

    def submit(self, runs: list[Run]) -> None:
        """Queues runs; never blocks."""
        with self._lock:
            self._queue.extend(runs)
            self._start_threads()
            self._wake_one()

    def _wake_one(self) -> None:
        """The one that has been idle for the shortest time: what it used is still in the processor's caches,
        and the server has not closed its connection."""
        if self._idle:
            self._woken += 1
            self._idle.pop().notify()

    def _start_threads(self) -> None:
        limit = self._size + min(self._waiting, MAX_WAITING)
        wanted = min(len(self._queue) - len(self._idle) - self._woken, limit - self._threads)
        for _ in range(max(0, wanted)):
            self._threads += 1
            threading.Thread(target=self._body, name=f"jobs-{self._threads}", daemon=True).start()

    def free(self) -> int:
        """How many runs could start now."""
        with self._lock:
            return self._free()

    def _free(self) -> int:
        busy = len(self._running) - min(self._waiting, MAX_WAITING) + len(self._queue)
        return max(0, self._size - busy)

    def wait_free(self, timeout_s: float) -> int:
        """Waits until a run could start; 0 when none could within `timeout_s`."""
        with self._lock:
            self._ended.wait_for(lambda: self._free() > 0, timeout_s)
            return self._free()

    def take_queued(self, wanted: Callable[[Job], bool]) -> list[Job]:
        """Takes jobs that have not started out of the queue; of a run all or none are wanted."""
        with self._lock:
            taken = [run for run in self._queue if wanted(run[0])]
            gone = set(taken)
            self._queue = deque(run for run in self._queue if run not in gone)
            self._ended.notify_all()
            return [job for run in taken for job in run]

    def running(self) -> list[Job]:
        """Jobs that have started and not ended."""
        with self._lock:
            return [job for run in self._running for job in run]

    def wait_idle(self, timeout_s: float, stuck: Container[Job] = ()) -> bool:
        """True when nothing is queued or running, but for the `stuck`, within `timeout_s`."""

        def idle() -> bool:
            return not self._queue and all(run[0] in stuck for run in self._running)

        with self._lock:
            return self._ended.wait_for(idle, timeout_s)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for another job."""
        with self._lock:
            self._waiting += 1
            self._start_threads()
            self._wake_one()
            self._ended.notify_all()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def _next(self) -> Run:
        mine = threading.Condition(self._lock)
        with self._lock:
            while not self._may_start():
                self._idle.append(mine)
                mine.wait()
                self._woken -= 1
            run = self._queue.popleft()
            if self._queue:
                self._wake_one()
            self._running.add(run)
            return run

    def _may_start(self) -> bool:
        limit = self._size + min(self._waiting, MAX_WAITING)
        return bool(self._queue) and len(self._running) < limit

    def _body(self) -> None:
        try:
            while True:
                run = self._next()
                try:
                    self._handle(run)
                finally:
                    with self._lock:
                        self._running.discard(run)
                        self._ended.notify_all()
        except BaseException as error:
            self._on_dead(f"job thread: {one_line(error)}")
