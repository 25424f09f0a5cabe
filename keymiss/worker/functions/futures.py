"""`gearsFuture()`: a step returns it, and its record goes on when somebody, in any thread, says with what."""

from __future__ import annotations

import threading
from typing import Any

from keymiss.worker.functions.job_context import FlatError, GearsError, current
from keymiss.worker.job import JobKind

LOOK_S = 0.2
"""A thread that waits runs a line of Python so often: else it could not be aborted."""

NOT_ENDED = (
    "Async record did not called continue: the future is gone, and nobody said what becomes of its record"
)


class Promise:
    """What a future comes to. It knows nothing of the future: that nobody holds that any more can be told."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._value: Any = None
        self._error: Exception | None = None
        self.returned = False

    @property
    def ended(self) -> bool:
        """It has a value or an error."""
        return self._ended.is_set()

    def end(self, value: Any, error: Exception | None) -> None:
        """Once only."""
        self._value, self._error = value, error
        self._ended.set()

    def wait(self) -> Any:
        """The value, or the error is raised. Meanwhile another thread may do jobs, also the next event of the
        same registration (but not of the same stream): one of them may be what this one waits for."""
        context = current()
        if context.job is not None and context.job.kind is JobKind.EVENT:
            context.connection.command("KM.YIELD", context.job.id)
        with context.services.waiting():
            while not self._ended.wait(LOOK_S):
                pass
        if self._error is not None:
            raise self._error
        return self._value


class GearsFuture:
    """`continueRun(value)` or `continueFailed(error)`, once, and after the step has returned it."""

    def __init__(self) -> None:
        if current().recorder is not None:
            raise GearsError("Future object can only be created inside certain execution steps")
        self._promise = Promise()

    def returned(self) -> Promise:
        """The step has returned it."""
        self._promise.returned = True
        return self._promise

    def continueRun(self, value: Any = None) -> None:
        """The record goes on with the value; of a filter, whether it goes on at all."""
        self._end(value, None)

    def continueFailed(self, error: Any = "") -> None:
        """The record failed."""
        self._end(None, FlatError(str(error)))

    def _end(self, value: Any, error: Exception | None) -> None:
        if self._promise.ended:
            raise GearsError("Can not continue with the same future twice")
        if not self._promise.returned:
            raise GearsError("Can not handle future untill it returned from the callback")
        self._promise.end(value, error)

    def __del__(self) -> None:
        promise = getattr(self, "_promise", None)
        if promise is not None and not promise.ended:
            promise.end(None, GearsError(NOT_ENDED))
