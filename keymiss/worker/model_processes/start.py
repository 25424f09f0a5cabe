"""Starts the library process. Imports next to nothing, so that a worker can do so before it imports the rest
of itself: torch takes a second or two, on another core.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import NamedTuple

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class Started(NamedTuple):
    """The process, and the socket to speak with it."""

    process: subprocess.Popen[bytes]
    control: socket.socket


def start_library_process(choice: str) -> Started:
    """Of one choice of `--backend`. It says when it has imported the libraries, and ends, from then on, when
    the socket is closed. OSError if there is no room for a process."""
    control, far = socket.socketpair()
    command = [sys.executable, "-m", "keymiss.worker.model_processes.library_process"]
    path = os.pathsep.join(filter(None, sys.path))
    with far:
        process = subprocess.Popen(
            [*command, str(far.fileno()), choice],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            pass_fds=[far.fileno()],
        )
    return Started(process, control)
