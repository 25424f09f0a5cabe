"""How slow this machine is now, and the time limits of the tests, which follow from it.

The limits in the tests are written for an idle machine of two cores, and are there to end what hangs, not to
measure: `patient(30)` is as long here as 30 s would be there, with headroom. Each process measures at its
start, and again whenever a limit is reached, because a machine may become slow later.

Environment:
    KEYMISS_TEST_PATIENCE  the factor to begin with, in place of the first measurement
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import time
from collections.abc import Callable

WORK_ROUNDS = 400_000
REFERENCE_S = 0.5  # that they take on the machine that the limits were written on
REFERENCE_CORES = 2
HEADROOM = 4.0  # for what needs several processes at once, and for tests that run beside each other
MOST = 6.0  # times slower


def slowness() -> float:
    """How many times slower than the reference this machine is now, beside whatever else runs; at least 1.

    The greater of two: what a piece of work takes, and how many processes want each core."""
    began_s = time.monotonic()
    digest = b""
    for _ in range(WORK_ROUNDS):
        digest = hashlib.blake2b(digest, digest_size=32).digest()
    worked = (time.monotonic() - began_s) / REFERENCE_S
    cores = len(os.sched_getaffinity(0))
    return min(MOST, max(1.0, worked, os.getloadavg()[0] / cores) * max(1.0, REFERENCE_CORES / cores))


class Patience:
    """The factor of the limits, which only grows."""

    def __init__(self, factor: float | None = None) -> None:
        self.factor = factor or 0.0
        if not factor:
            self.look_again()

    def look_again(self) -> None:
        """Measures."""
        self.factor = max(self.factor, HEADROOM * slowness())


_patience = Patience(float(os.environ.get("KEYMISS_TEST_PATIENCE") or 0))


def patient(seconds: float) -> float:
    """A limit of so many seconds, here and now."""
    return seconds * _patience.factor


def slower(seconds: float) -> float:
    """A limit of the system that is tested, without the headroom: a test waits until it is over."""
    return patient(seconds) / HEADROOM


class Limit:
    """A limit that begins now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began_s = time.monotonic()
        self._until_s = self._began_s + patient(seconds)

    @property
    def whole_s(self) -> float:
        """Its length."""
        return self._until_s - self._began_s

    def reached(self) -> bool:
        """Not before the machine was found to be no slower than was thought."""
        if time.monotonic() < self._until_s:
            return False
        _patience.look_again()
        self._until_s = self._began_s + patient(self.seconds)
        return time.monotonic() >= self._until_s


async def eventually(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Returns when the condition, which may be awaitable, is true; fails if it is not in time."""
    limit = Limit(within_s)
    while True:
        told = condition()
        if await told if inspect.isawaitable(told) else told:
            return
        assert not limit.reached(), "not in time"
        await asyncio.sleep(0.01)
