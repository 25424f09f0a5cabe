"""The worker's side of a process that forks others for it."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from keymiss.worker.model_processes.frames import Frame, FrameError, receive, send

REPLY_LIMIT_S = 20.0
"""A process that only forks and ends others answers in milliseconds, unless the machine is out of memory."""


class ProcessLost(Exception):
    """It has ended, or does not answer."""


class ForkingProcess:
    """Told by its socket. Can be used by several threads."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()

    def ask(self, fields: Mapping[str, Any], file: int = -1, limit_s: float = REPLY_LIMIT_S) -> Frame:
        """Its answer. ProcessLost if there is none in time; it cannot be asked again then."""
        with self._lock, self._lost_if_it_fails():
            self._control.settimeout(limit_s)
            with suppress(BrokenPipeError):  # it has ended, but may have answered before
                send(self._control, fields, fd=file)
            return receive(self._control)

    def hear(self, limit_s: float) -> Frame:
        """What it says by itself. ProcessLost, as above."""
        with self._lock, self._lost_if_it_fails():
            self._control.settimeout(limit_s)
            return receive(self._control)

    @contextmanager
    def _lost_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, FrameError) as error:
            self.close()
            raise ProcessLost(type(error).__name__) from error

    def fork(self, **order: str) -> tuple[int, socket.socket]:
        """A process of it (0: none, see `ForkingModels`), and the socket to speak with it."""
        near, far = socket.socketpair()
        try:
            pid: int = self.ask(order, far.fileno()).fields["pid"]
        except ProcessLost:
            near.close()
            raise
        finally:
            far.close()
        return pid, near

    def end(self, pid: int) -> str:
        """Ends one that it forked, if that has not ended by itself; says how it ended."""
        return how_it_ended(self.ask({"end": pid}).fields["status"])

    def close(self) -> None:
        """It ends, with all that it forked."""
        with self._control, suppress(OSError):
            send(self._control, {"done": True})


def how_it_ended(status: int) -> str:
    """`status` as wait() gives it."""
    number = status & 0x7F
    if number == signal.SIGKILL:
        return "killed (SIGKILL): out of memory?"
    if number:
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"signal {number}"
    return f"exit code {status >> 8}"
