"""Ends a function that runs in a thread, from another thread: `Interrupted` is raised in it, wherever it is.

That works for Python code, also in a loop; not while a call into a library or the system does not return.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from keymiss.worker.functions import event_loops
from keymiss.worker.functions.job_context import GearsError

Result = TypeVar("Result")

_LOCAL = threading.local()
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Interrupted(BaseException):
    """No Exception: a function that goes on after any of those does not go on after this."""


class Interruption:
    """Of what the calling thread runs from now on, until `close`. `text`: why it was interrupted."""

    def __init__(self) -> None:
        self.text = ""
        self.tries = 0
        self.first_try_s = 0.0
        self._thread = ctypes.c_ulong(threading.get_ident())
        self._lock = threading.Lock()
        self._open = True
        self._shields = 0

    @property
    def is_open(self) -> bool:
        """Whether it still runs."""
        return self._open

    def interrupt(self, text: str) -> None:
        """From another thread. Not at once if it is behind a shield: to be tried again."""
        with self._lock:
            if self._open:
                self.tries += 1
                self.first_try_s = self.first_try_s or time.monotonic()
                self.text = self.text or text
                if not self._shields:
                    _raise_in(self._thread, ctypes.py_object(Interrupted))
                    event_loops.wake(self._thread.value)

    def close(self) -> None:
        """It has ended: nothing is raised any more. More than once does no harm."""
        with self._lock:
            self._open = False
            if self.tries:
                _raise_in(self._thread, None)

    def shielded(self, by: int) -> None:
        """One shield more or less."""
        with self._lock:
            self._shields += by


class Shield:
    """``with Shield():`` around what must not stop half-way, because others use it too."""

    def __enter__(self) -> None:
        self._around: Interruption | None = getattr(_LOCAL, "interruption", None)
        if self._around is not None:
            self._around.shielded(+1)
            try:
                for _ in (0, 1):
                    pass  # what was raised before is noticed here at the latest
            except Interrupted:
                self._around.shielded(-1)
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._around is not None:
            self._around.shielded(-1)


def run_interruptibly(made: Callable[[Interruption], Any], body: Callable[[], Result]) -> Result:
    """What `body` returns; GearsError if it was interrupted. `made` is told of the interruption."""
    interruption = Interruption()
    try:
        _LOCAL.interruption = interruption
        made(interruption)
        try:
            return body()
        finally:
            interruption.close()
    except BaseException:
        interruption.close()
        if not interruption.text:
            raise
        event_loops.close_thread_loop()  # it may have been interrupted, too
        raise GearsError(interruption.text) from None
    finally:
        _LOCAL.interruption = None
