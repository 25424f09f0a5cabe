"""The worker's side of one runner: runs go out, results come back, and what scripts ask for."""

from __future__ import annotations

import os
import socket
import time
from collections import deque

from keymiss.worker.model_processes.asks import ASK
from keymiss.worker.model_processes.forking import ForkingProcess
from keymiss.worker.model_processes.frames import AT_ONCE_BYTES, Frame, FrameReader
from keymiss.worker.model_processes.run_queue import ModelRun

SECOND_BYTES = 1 << 17
"""A larger run is not sent while another is being done: it would not fit into the socket."""

MOST_BUFFERS = os.sysconf("SC_IOV_MAX")
"""That the kernel takes in one call."""


class Runner:
    """`runs`: the first is being done since `began_s`, a second may be on its way. Without any it has nothing
    to do since then. `asking`: the first has asked for something and waits for the answer."""

    def __init__(self, process: ForkingProcess, pid: int, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket, self.runs, self.began_s = connection, deque[ModelRun](), time.monotonic()
        self.asking = False
        self._process, self._pid = process, pid
        self._reader = FrameReader(at_once=AT_ONCE_BYTES)
        self._unsent: list[memoryview] = []

    @property
    def unsent(self) -> bool:
        """Whether a part of a run waits for the runner to read what came before."""
        return bool(self._unsent)

    def takes_second(self, run: ModelRun) -> bool:
        """Whether the run can be sent after the one that is being done."""
        alone = len(self.runs) == 1 and self.runs[0].calls is None  # else the answer would come second
        return alone and not self._unsent and run.size <= SECOND_BYTES

    def send(self, run: ModelRun) -> None:
        """Sends what the socket takes; `send_more` the rest."""
        if not self.runs:
            self.began_s = time.monotonic()
        self.runs.append(run)
        self._unsent = list(run.buffers)
        self.send_more()

    def answer(self, buffers: list[memoryview]) -> None:
        """The same, of what the script asked for."""
        self.asking = False
        self._unsent = buffers
        self.send_more()

    def send_more(self) -> None:
        """As much as it takes. That the runner is gone is noticed when its result is read."""
        try:
            while self._unsent:
                sent = self.socket.sendmsg(self._unsent[:MOST_BUFFERS])
                while self._unsent and sent >= len(self._unsent[0]):
                    sent -= len(self._unsent.pop(0))
                if self._unsent:
                    self._unsent[0] = self._unsent[0][sent:]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = []

    def result(self, *, was_read: bool) -> tuple[ModelRun, Frame] | None:
        """A run that ended, and what came of it; or, of a script that goes on, what it asks for. None if
        there is neither yet. EOFError, OSError or FrameError when the runner is gone or sends nonsense.
        `was_read`: only one that came together with the last."""
        frame = self._reader.next() if was_read else self._reader.read(self.socket)
        if frame is None:
            return None
        if not self.runs:
            raise EOFError
        if ASK in frame.fields:
            self.asking = True
            return self.runs[0], frame
        run = self.runs.popleft()
        self.began_s = time.monotonic()
        return run, frame

    def end(self) -> str:
        """Ends the process; says how it ended if it did so by itself. ProcessLost if it cannot be told."""
        self.socket.close()
        return self._process.end(self._pid)
