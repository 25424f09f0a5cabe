"""The processes on the other side: ``python -m`` this, the number of a socket, a choice of `--backend`, and
perhaps where to wait for another worker when this one is gone.

It imports the libraries and forks the processes of models, which fork their runners. Those that fork have no
threads, but for one of onnxruntime that only waits, so a fork copies no lock that is held. Whoever ends takes
those that it forked along.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from keymiss.logs import one_line
from keymiss.reading.backends.base import Backend, FileModel, ModelError
from keymiss.reading.backends.table import backend_table
from keymiss.reading.backends.torch_script import TorchScript
from keymiss.reading.tensors import Tensor
from keymiss.worker.model_processes.asks import AsksOfScript
from keymiss.worker.model_processes.frames import (
    AT_ONCE_BYTES,
    Frame,
    FrameError,
    FrameReader,
    receive_with_file,
    send,
)
from keymiss.worker.model_processes.memory import release_freed, unmap_files
from keymiss.worker.model_processes.warming import warm

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KILLED_FIRST = "500"  # of -1000 to 1000: a run that takes all memory goes before a shard does
IDLE_S = 1  # after so long a runner gives the system back what memory its runs took
REAP_S = 1.0  # how long one that ended by itself is there as a zombie
NEXT_WORKER_S = 10.0  # a supervisor starts it at once
KEPT_S = 60.0  # how long a model is kept that the next worker does not ask for

_libc = ctypes.CDLL(None)

Runs = Callable[[Frame, AsksOfScript], list[Tensor]]
"""What a runner does with a request."""


def library_process(control: socket.socket, choice: str, waits_at: Path | None) -> None:
    """Imports the libraries, says so, and forks processes for models and scripts; for the next worker too."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # of runners whose model's process has ended
    _heed_signals(False)  # the worker gets them too, and finishes what runs
    backends = backend_table(choice)
    backends["TORCH"].prepare_thread()  # most models want it, and it takes a second
    _keep_shared()
    models = ForkingModels(backends)
    worker: socket.socket | None = control
    while worker is not None:
        with worker, suppress(EOFError, OSError, FrameError):
            send(worker, {})
            models.obey(worker)
        models.keep()
        worker = _next_worker(waits_at) if waits_at is not None else None


def _next_worker(waits_at: Path) -> socket.socket | None:
    _heed_signals(True)
    waits_at.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening, suppress(TimeoutError):
        before = os.umask(0o177)
        listening.bind(str(waits_at))
        os.umask(before)
        listening.listen(1)
        listening.settimeout(NEXT_WORKER_S)
        worker, _ = listening.accept()
        _heed_signals(False)
        worker.settimeout(NEXT_WORKER_S)
        said = _received_file(worker)
        worker.settimeout(None)
        for number in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(said, number)
        os.close(said)
        return worker
    return None


def _received_file(source: socket.socket) -> int:
    """EOFError if the other side is gone."""
    _, files, _, _ = socket.recv_fds(source, 1, 1)
    if not files:
        raise EOFError
    return files[0]


def _heed_signals(heed: bool) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if heed else signal.SIG_IGN)


def model_process(
    backends: Mapping[str, Backend], handed_over: socket.socket | None, control: socket.socket
) -> None:
    """Loads the model or script that it is sent, says what it is, and forks runners; then for the next
    worker, whose socket it gets by `handed_over`."""
    order, file = receive_with_file(control)
    try:
        blob = Path(f"/proc/self/fd/{file}").read_bytes()
        os.ftruncate(file, 0)  # it is in memory, and the worker has it open, too
        os.close(file)
        about: dict[str, Any] = {}
        if "entry_points" in order.fields:
            runs = _compile(backends, blob, order.fields["entry_points"])
        else:
            runs, about = _load(backends, blob, order.fields["backend"])
        del blob  # the runners would have it, too
    except Exception as error:
        send(control, _failure(error))
        return
    _keep_shared()
    runners = Forking(partial(runner, runs))
    while True:
        with control, suppress(EOFError, OSError, FrameError):
            send(control, about)
            runners.obey(control)
            return
        runners.end_all()
        if handed_over is None:
            return
        control = socket.socket(fileno=_received_file(handed_over))


def _load(backends: Mapping[str, Backend], blob: bytes, name: str) -> tuple[Runs, dict[str, Any]]:
    backend = backends.get(name.upper())
    if backend is None:
        raise ModelError(f"{name} models do not run here: {' and '.join(sorted(backends))} do")
    backend.prepare_thread()
    model: FileModel = backend.load(blob)
    warm(model)
    about = {
        "about": model.about and model.about.to_json(),
        "inputs": list(model.inputs),
        "outputs": list(model.outputs),
        "version": backend.version,
    }
    return lambda request, _asks: model.run(request.tensors), about


def _compile(backends: Mapping[str, Backend], source: bytes, entry_points: Sequence[str]) -> Runs:
    backends["TORCH"].prepare_thread()
    try:
        script = TorchScript(source.decode("utf-8", "replace"), entry_points)
    except ImportError as error:
        raise ModelError("this worker has no TORCH: scripts do not run here") from error

    def run(request: Frame, asks: AsksOfScript) -> list[Tensor]:
        call = script.call(calls=asks, **request.fields)
        return call.run(request.tensors)

    return run


def _failure(error: Exception) -> dict[str, str]:
    if isinstance(error, ModelError):
        return {"error": str(error), "reason": error.reason}
    return {"error": str(error) if isinstance(error, FrameError) else one_line(error)}


def runner(runs: Runs, requests: socket.socket) -> None:
    """Runs a model or script over what it is sent, and sends back what that gives or why it failed."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(KILLED_FIRST)
    reader = FrameReader(at_once=AT_ONCE_BYTES)
    asks = AsksOfScript(requests, reader)
    requests.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", IDLE_S, 0))
    while True:
        request = reader.read(requests)
        if request is None:
            release_freed()
            continue
        began_ns = time.perf_counter_ns()
        try:
            outputs = runs(request, asks)
            took_us = (time.perf_counter_ns() - began_ns) // 1000
            send(requests, {"took_us": took_us}, outputs)
        except (ConnectionError, EOFError):
            raise  # the worker is gone
        except Exception as error:
            send(requests, _failure(error))


class Forking:
    """Forks processes that run `body` with the socket they are given, and ends them, as it is told to."""

    def __init__(self, body: Callable[[socket.socket], None]) -> None:
        self._body = body
        self._forked: set[int] = set()
        self._ended: dict[int, int] = {}

    def obey(self, control: socket.socket) -> None:
        """Until it is told that no more comes. EOFError when who told it is gone."""
        while True:
            while not select.select([control], [], [], REAP_S)[0]:
                self.reap()
            order, file = receive_with_file(control)
            if "done" in order.fields:
                return
            send(control, self.answer(control, order.fields, file))

    def answer(self, control: socket.socket, order: Mapping[str, Any], file: int) -> dict[str, Any]:
        if (pid := order.get("end")) is not None:
            return {"status": self.end(pid)}
        return {"pid": self.fork(control, file, self._body)}

    def fork(self, control: socket.socket, file: int, body: Callable[[socket.socket], None]) -> int:
        """Its process id. Not to wait for: the other side of `file` says what it does."""
        pid = _fork(control, file, body)
        self._forked.add(pid)
        self._ended.pop(pid, None)  # of one before that had this number
        return pid

    def is_there(self, pid: int) -> bool:
        """Else the number may be another's by now."""
        return pid in self._forked and pid not in self._ended

    def end(self, pid: int) -> int:
        """How it ended, as wait() has it."""
        if self.is_there(pid):
            os.kill(pid, signal.SIGKILL)
            self._ended[pid] = os.waitpid(pid, 0)[1]
        self._forked.discard(pid)
        return self._ended.pop(pid, 0)

    def end_all(self, but: Collection[int] = ()) -> None:
        for pid in self._forked.difference(but):
            self.end(pid)

    def reap(self) -> None:
        """How those that it forked ended is kept: their numbers are theirs until somebody asks."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] in self._forked:
                    self._ended[found[0]] = found[1]


class ForkingModels(Forking):
    """Those with a name (backend and digest) stay when the worker is gone, and the next one gets them."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        super().__init__(partial(model_process, backends, None))
        self._backends = backends
        self._named: dict[int, tuple[str, socket.socket]] = {}
        self._kept: dict[str, int] = {}
        self._kept_until_s = 0.0

    def answer(self, control: socket.socket, order: Mapping[str, Any], file: int) -> dict[str, Any]:
        if "kept" in order:
            return {"pid": self._hand_over(order["kept"], file)}
        if "name" not in order:
            return super().answer(control, order, file)
        near, far = socket.socketpair()
        with far:
            pid = self.fork(control, file, partial(model_process, self._backends, far))
        self._named[pid] = order["name"], near
        return {"pid": pid}

    def keep(self) -> None:
        """The worker is gone."""
        self.reap()
        self._kept = {name: pid for pid, (name, _) in self._named.items()}
        self._kept_until_s = time.monotonic() + KEPT_S
        self.end_all(but=self._kept.values())

    def _hand_over(self, name: str, file: int) -> int:
        """0 if there is none of this name."""
        pid = self._kept.pop(name, 0)
        try:
            if not self.is_there(pid):
                return 0
            socket.send_fds(self._named[pid][1], [b"!"], [file])
            return pid
        except OSError:
            return 0
        finally:
            os.close(file)

    def reap(self) -> None:
        super().reap()
        if self._kept and time.monotonic() > self._kept_until_s:
            for pid in self._kept.values():
                self.end(pid)
            self._kept = {}
        for pid in [pid for pid in self._named if not self.is_there(pid)]:
            self._named.pop(pid)[1].close()


def _fork(control: socket.socket, file: int, body: Callable[[socket.socket], None]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(file)
        return pid
    code = 1
    try:
        control.close()
        _end_with(parent)
        body(socket.socket(fileno=file))
        code = 0
    except (EOFError, ConnectionError):
        code = 0  # whoever it works for is gone
    except BaseException as error:
        print(f"model process: {one_line(error)}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _end_with(parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _keep_shared() -> None:
    """Before a fork: what is here stays shared, as the garbage collector does not touch it."""
    gc.collect()
    gc.freeze()
    release_freed()
    unmap_files()


def main() -> None:
    """See the module's text."""
    control = socket.socket(fileno=int(sys.argv[1]))
    with suppress(EOFError, OSError):
        library_process(control, sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    os._exit(0)


if __name__ == "__main__":
    main()
