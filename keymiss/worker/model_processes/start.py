"""Starts the library process, or finds that of a worker that died. Imports next to nothing, so that a worker
can do so before it imports the rest of itself: torch takes a second or two, on another core.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
FOUND = b"2"
"""What one that was waiting says first. Another byte with every change of what goes over its sockets: a
worker of another build takes none that it does not understand."""

FOUND_S = 2.0
MOST_PATH_BYTES = 107
_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Process(Protocol):
    """As subprocess.Popen."""

    pid: int

    def kill(self) -> None:
        """Does nothing if it has ended."""

    def wait(self, timeout: float) -> int | None:
        """How it ended, if that is known. subprocess.TimeoutExpired."""


class Started(NamedTuple):
    """The process, and the socket to speak with it."""

    process: Process
    control: socket.socket


class _Found:
    """A process that another one started."""

    def __init__(self, pid: int) -> None:
        self.pid, self._file = pid, os.pidfd_open(pid)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._file, signal.SIGKILL)

    def wait(self, timeout: float) -> None:
        if not select.select([self._file], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("library process", timeout)
        with suppress(ChildProcessError):  # it is this one's child where a worker began anew
            os.waitpid(self.pid, os.WNOHANG)


def start_library_process(choice: str, waits_at: Path | None = None) -> Started:
    """Of one choice of `--backend`. It says when it has imported the libraries. When the socket is closed
    it ends, or waits for the next worker at `waits_at` (a Unix socket that it makes). OSError if there is no
    room for a process."""
    control, far = socket.socketpair()
    command = [sys.executable, "-m", "keymiss.worker.model_processes.library_process"]
    path = os.pathsep.join(filter(None, sys.path))
    with far:
        process = subprocess.Popen(
            [*command, str(far.fileno()), choice, *([] if waits_at is None else [str(waits_at)])],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            pass_fds=[far.fileno()],
        )
    return Started(process, control)


def socket_problem(path: Path) -> str:
    """Why there can be no Unix socket; empty if there can."""
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        return f"{path}: a Unix socket's path has {MOST_PATH_BYTES} bytes at most"
    if os.path.lexists(path) and not path.is_socket():
        return f"{path} is there, and is no socket"
    if not os.access(path.parent, os.W_OK | os.X_OK) or not path.parent.is_dir():
        return f"{path}: {path.parent} is no folder that this user may write to"
    return ""


def found_library_process(waits_at: Path) -> Started | None:
    """One that waits there since its worker died; None if there is none, it is another user's, or it does not
    answer."""
    control = socket.socket(socket.AF_UNIX)
    try:
        control.settimeout(FOUND_S)
        control.connect(str(waits_at))
        pid, user, _group = _CREDENTIALS.unpack(
            control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if user != os.geteuid():  # in a folder where others may write, too
            raise PermissionError
        socket.send_fds(control, [b"!"], [sys.stderr.fileno()])  # where it says what happens
        if control.recv(len(FOUND)) != FOUND:
            raise ConnectionError
        control.settimeout(None)
        return Started(_Found(pid), control)
    except OSError:
        control.close()
        return None
