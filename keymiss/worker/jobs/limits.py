"""Ends the functions of jobs whose time is over, and those that their shard wants to end (RG.ABORTEXECUTION).

A function has twice the time of its job, as a client who joined it late may wait so long; then the shard has
forgotten it. One that cannot be interrupted, or does not end, is told to `on_stuck`.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from redis.exceptions import RedisError

from keymiss.cluster.shard_connection import ThreadConnections
from keymiss.cluster.topology import Shard
from keymiss.logs import log_event, one_line
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.interruption import Interruption, run_interruptibly
from keymiss.worker.functions.run_terms import AFTERWARDS_S, SETTINGS
from keymiss.worker.job import Job, Run

LOOK_S = 0.2
AGAIN_S = 1.0
STUCK_AFTER_S = 5.0
"""From the first interruption on."""

YOUNG_S = 0.4
"""Of jobs that have run shorter no shard is asked: most end before."""

ASK_LIMIT_S = 1.0
"""A shard that does not answer must not hold up what is ended on others."""

ABORTED = "the function was aborted"

Result = TypeVar("Result")


@dataclass(eq=False)
class _Watched:
    """What one thread does for the jobs of a run. `beside`: another one began it."""

    interruption: Interruption
    run: Run
    beside: bool
    ends_at_s: float
    text: str
    """Why it is ended then."""
    began_s: float = field(default_factory=time.monotonic)


class JobLimits:
    """`limit_s`: of a job without a limit of its own. `connections`: to ask the shards."""

    def __init__(
        self,
        limit_s: float,
        connections: ThreadConnections,
        on_stuck: Callable[[Run, str], None],
        on_dead: Callable[[str], None],
    ) -> None:
        self._limit_s, self._connections = limit_s, connections
        self._on_stuck, self._on_dead = on_stuck, on_dead
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []

    def start(self) -> None:
        """Starts its thread."""
        threading.Thread(target=self._body, name="job-limits", daemon=True).start()

    def run(self, run: Run, body: Callable[[], Result]) -> Result:
        """Does the jobs. GearsError if they take too long, or are aborted, also in ending what
        they left."""
        return run_interruptibly(partial(self._watch, run, False), partial(_and_what_is_left, body))

    def run_beside(
        self, run: Run, body: Callable[[], Result], made: Callable[[Interruption], None] = lambda _: None
    ) -> Result:
        """A part of what is done for the jobs, in a thread of its own; it ends when they are ended."""

        def watch(interruption: Interruption) -> None:
            made(interruption)
            self._watch(run, True, interruption)

        return run_interruptibly(watch, body)

    def _watch(self, run: Run, beside: bool, interruption: Interruption) -> None:
        if run and run[0].is_unattended:
            ends_at_s, setting = float("inf"), ""
        elif run and not beside and all(job.remaining_ms for job in run):
            ends_at_s, setting = max(map(_forgotten_at_s, run)), SETTINGS.get(run[0].kind, "")
        else:
            ends_at_s = time.monotonic() + self._limit_s
            setting = f"--job-limit-s of the worker, {self._limit_s:g} s"
        text = f"the function took too long and was ended: {setting}"
        with self._lock:
            self._watched.append(_Watched(interruption, run, beside, ends_at_s, text))

    def _body(self) -> None:
        try:
            while True:
                time.sleep(LOOK_S)
                self._look(time.monotonic())
        except BaseException as error:
            self._on_dead(f"job limits: {one_line(error)}")

    def _look(self, now_s: float) -> None:
        with self._lock:
            self._watched = [one for one in self._watched if one.interruption.is_open]
            watched = list(self._watched)
        begun = [one for one in watched if not one.beside]
        aborted = self._aborted([one for one in begun if now_s - one.began_s > YOUNG_S])
        texts = {}
        for one in begun:
            if now_s > one.ends_at_s or one.run in aborted:
                texts[one.run] = ABORTED if now_s < one.ends_at_s and not one.run[0].overdue else one.text
        working = {one.run for one in begun}
        for one in watched:
            if one.interruption.tries or now_s > one.ends_at_s or one.run in texts:
                self._end(one, texts.get(one.run, one.text), now_s, one.run in working)

    def _end(self, one: _Watched, text: str, now_s: float, is_waited_for: bool) -> None:
        interruption = one.interruption
        if interruption.tries == 0 and not one.beside:
            log_event("function_ended", "warning", kind=one.run[0].kind, jobs=len(one.run), error=text)
        since_s = now_s - interruption.first_try_s
        if interruption.tries == 0 or since_s > interruption.tries * AGAIN_S:
            interruption.interrupt(text)
        if interruption.tries > 1 and since_s > STUCK_AFTER_S and interruption.is_open and is_waited_for:
            with self._lock:
                self._watched.remove(one)
            self._on_stuck(one.run, f"{interruption.text} (it is in a call that cannot be interrupted)")

    def _aborted(self, watched: list[_Watched]) -> set[Run]:
        """Those that their shards want to end, or know no more."""
        by_shard: dict[Shard, list[Run]] = defaultdict(list)
        for one in watched:
            by_shard[one.run[0].shard].append(one.run)
        aborted: set[Run] = set()
        for shard, runs in by_shard.items():
            jobs = [job for run in runs for job in run]
            asked = ("KM.ENDING", *(job.id for job in jobs))
            try:
                told = self._connections.get(shard).command(*asked, timeout_s=ASK_LIMIT_S)
            except (RedisError, OSError) as error:
                log_event("ending_not_asked", "warning", shard=shard.address, error=one_line(error))
                continue
            ending = {job for job, is_to_end in zip(jobs, told, strict=True) if is_to_end}
            aborted.update(run for run in runs if ending.issuperset(run))
        return aborted


def _and_what_is_left(body: Callable[[], Result]) -> Result:
    try:
        return body()
    finally:
        event_loops.cancel_leftovers()


def _forgotten_at_s(job: Job) -> float:
    return job.pulled_at_s + (2 * job.remaining_ms + job.queued_ms) / 1000 + AFTERWARDS_S
