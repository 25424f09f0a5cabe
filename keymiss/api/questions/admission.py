"""How many questions are answered at once: as many as are answered soon, so that what is taken is finished.

While n questions are answered and each takes t seconds, n / t end each second (Little's law), so n * s / t at
once would take s each. To that the limit falls when one took longer than it should while at least half of the
limit was in use: one that is slow by itself says nothing about many. It grows by about one for each limit's
worth of questions that ended soon while it was reached.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keymiss.api.http.problems import TooManyQuestions

FIRST, LEAST = 16, 2
ROUNDING = 1e-6
LEAST_SHRUNK, MOST_SHRUNK = 0.8, 0.25
"""Parts of what there was before: a few questions may be slow by themselves."""
IN_USE = 0.5
"""The part of the limit that must have been in use for a slow question to lower it."""


@dataclass(eq=False)
class Turn:
    """A question that was taken as the `number`-th at once. `was_read`: whether there was time for all that
    was to be read for it; None: not known, or it says nothing of that."""

    number: int
    began_s: float
    was_read: bool | None = None


class Admission:
    """At most `most` at once, and as many of them as end within `soon_s`. For one thread."""

    def __init__(self, most: int, soon_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._soon_s, self._clock = most, soon_s, clock
        self._limit = float(min(FIRST, most))
        self._in_flight = 0
        self._reached_s = self._shrunk_s = float("-inf")

    @property
    def limit(self) -> int:
        """So many at once, now."""
        return int(self._limit + ROUNDING)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Turn]:
        """While a question is answered. TooManyQuestions."""
        if self._in_flight >= self.limit:
            raise TooManyQuestions(f"{self._in_flight} questions are being answered; ask again in a second")
        self._in_flight += 1
        if self._in_flight == self.limit:
            self._reached_s = self._clock()
        turn = Turn(self._in_flight, self._clock())
        try:
            yield turn
        finally:
            self._in_flight -= 1
            if turn.was_read is not None:
                self._learn(turn, self._clock() - turn.began_s)

    def _learn(self, turn: Turn, took_s: float) -> None:
        if turn.was_read and took_s <= self._soon_s:
            if self._reached_s >= turn.began_s:
                self._limit = min(self._most, self._limit + 1 / self._limit)
        elif turn.number >= self._limit * IN_USE and turn.began_s > self._shrunk_s:
            # one that began before was taken under a limit that has fallen since
            self._shrunk_s = self._clock()
            part = min(self._soon_s / took_s, LEAST_SHRUNK)
            fitting = max(turn.number * part, self._limit * MOST_SHRUNK)
            self._limit = max(min(LEAST, self._most), min(self._limit, fitting))
