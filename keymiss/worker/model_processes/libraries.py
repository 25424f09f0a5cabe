"""The worker's side of the library process: starts it, and loads models and scripts in processes it forks."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from keymiss.logs import log_event, one_line
from keymiss.reading.backends.base import ModelError
from keymiss.reading.reader import About
from keymiss.worker.model_processes.forking import REPLY_LIMIT_S, ForkingProcess, ProcessLost
from keymiss.worker.model_processes.frames import FrameError, receive
from keymiss.worker.model_processes.memory import family_of
from keymiss.worker.model_processes.start import Started, start_library_process

START_LIMIT_S = 120.0
"""torch is imported in a second, or in a minute from a slow disk."""

LOAD_LIMIT_S = 300.0
"""A model of 1.3 GB is loaded in some ten seconds."""

STORE_AGAIN = "it is tried again when it is stored again"


class NotNow(ModelError):
    """There is nothing wrong with the model, as far as is known."""


class LoadedModel:
    """A model or script in a process of its own, which ends when nobody has this object any more, or is
    `lost`. Of a model: what its file says of itself, its inputs' and outputs' names, the version of the
    library that runs it, and how long its runs take, about (infinity before the first)."""

    def __init__(self, pid: int, process: ForkingProcess, found: Mapping[str, Any]) -> None:
        self.pid, self.process, self.lost = pid, process, False
        about = found.get("about")
        self.about: About | None = About.from_json(about) if about else None
        self.inputs: list[str] = found.get("inputs", [])
        self.outputs: list[str] = found.get("outputs", [])
        self.version: str = found.get("version", "")
        self.run_s = inf
        weakref.finalize(self, process.close)

    def took(self, runs_us: Sequence[int]) -> None:
        """Runs have ended."""
        mean_s = max(1, sum(runs_us)) / len(runs_us) / 1e6
        self.run_s = mean_s if self.run_s == inf else (self.run_s + mean_s) / 2


class Libraries:
    """Of one choice of `--backend`. Can be used by several threads. `started`: a library process of that
    choice; without it one is started when something is to be loaded. `waits_at`: as `start_library_process`
    has it."""

    def __init__(self, choice: str, started: Started | None = None, waits_at: Path | None = None) -> None:
        self._choice, self._waits_at = choice, waits_at
        self._lock = threading.Lock()
        self._started = started.process if started else None
        self._control = started.control if started else None
        self._process: ForkingProcess | None = None
        self._stopped = False

    def load(self, backend: str, file: int, digest: str) -> LoadedModel:
        """The model in `file`, which is emptied. ModelError if it is none, or takes too long to load;
        NotNow if that could not be tried."""
        return self._load({"backend": backend}, file, _name(backend, digest) if self._waits_at else "")

    def kept(self, backend: str, digest: str) -> LoadedModel | None:
        """The model that the worker before this one had loaded."""
        if self._waits_at is None or not digest:
            return None
        with suppress(ProcessLost):
            libraries = self._ready()
            pid, control = libraries.fork(kept=_name(backend, digest))
            process = ForkingProcess(control)
            if not pid:
                process.close()
                return None
            try:
                return LoadedModel(pid, process, process.hear(LOAD_LIMIT_S).fields)  # it may still be loading
            except ProcessLost:
                libraries.end(pid)
        return None

    def compile(self, source: bytes, entry_points: Sequence[str]) -> LoadedModel:
        """A script. ModelError if it does not compile, or an entry point is none."""
        with os.fdopen(os.memfd_create("script"), "r+b", buffering=0) as file:
            file.write(source)
            return self._load({"entry_points": list(entry_points)}, file.fileno())

    def _load(self, order: Mapping[str, Any], file: int, name: str = "") -> LoadedModel:
        try:
            libraries, (pid, control) = self._fork(name)
            process = ForkingProcess(control)
            try:
                fields = process.ask(order, file, LOAD_LIMIT_S).fields
            except ProcessLost as lost:
                process.close()
                ended = libraries.end(pid)
                if isinstance(lost.__cause__, TimeoutError):
                    raise ModelError(
                        f"it was not loaded within {LOAD_LIMIT_S:.0f} s; {STORE_AGAIN}"
                    ) from None
                raise ModelError(f"the process that loaded it ended: {ended}; {STORE_AGAIN}") from None
        except ProcessLost as lost:
            raise NotNow(f"the worker's library process does not answer ({lost}): ask again") from None
        if "error" in fields:
            process.close()
            raise ModelError(fields["error"], fields.get("reason"))
        return LoadedModel(pid, process, fields)

    def _fork(self, name: str) -> tuple[ForkingProcess, tuple[int, socket.socket]]:
        """Of a new library process, if the one there was has ended."""
        named = {"name": name} if name else {}
        process = self._ready()
        try:
            return process, process.fork(**named)
        except ProcessLost:
            with self._lock:
                if process is self._process:
                    self._lost()
            process = self._ready()
            return process, process.fork(**named)

    def _ready(self) -> ForkingProcess:
        with self._lock:
            if self._stopped:
                raise ProcessLost("the worker stops")
            if self._started is None:
                try:
                    self._start()
                except OSError as error:
                    raise ProcessLost(one_line(error)) from error
            if self._process is None:
                assert self._control is not None
                try:
                    self._control.settimeout(START_LIMIT_S)
                    receive(self._control)
                except (OSError, EOFError, FrameError) as error:
                    self._lost()
                    raise ProcessLost(type(error).__name__) from error
                self._process = ForkingProcess(self._control)
            return self._process

    def _start(self) -> None:
        self._started, self._control = start_library_process(self._choice, self._waits_at)

    def _lost(self) -> None:
        log_event("library_process_ended", "error", exit_code=self._end())

    def _end(self) -> int | None:
        assert self._started is not None
        assert self._control is not None
        self._control.close()
        self._started.kill()
        code = None
        with suppress(subprocess.TimeoutExpired):  # the kernel has it, and ends it later
            code = self._started.wait(REPLY_LIMIT_S)
        self._started = self._control = self._process = None
        return code

    def kill(self) -> None:
        """Ends it and all models, without waiting for that; no other is started."""
        self._stopped = True
        if (started := self._started) is not None:
            started.kill()

    def stop(self) -> None:
        """The same, and waits."""
        self.kill()  # whoever waits for it, with the lock held, waits no more
        with self._lock:
            if self._started is not None:
                self._end()

    def pids(self) -> list[int]:
        """Of it and of all that came of it, as far as they are there now."""
        started = self._started  # without the lock: somebody may have it who waits for the start
        return [] if started is None else family_of(started.pid)


def _name(backend: str, digest: str) -> str:
    return f"{backend.upper()} {digest}"
