"""The processes on the other side: ``python -m`` this, the number of a socket, and a choice of `--backend`.

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
from collections.abc import Callable, Mapping, Sequence
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

_libc = ctypes.CDLL(None)

Runs = Callable[[Frame, AsksOfScript], list[Tensor]]
"""What a runner does with a request."""


def library_process(control: socket.socket, choice: str) -> None:
    """Imports the libraries, says so, and forks processes for models and scripts."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # of runners whose model's process has ended
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker gets them too, and finishes what runs
    backends = backend_table(choice)
    backends["TORCH"].prepare_thread()  # most models want it, and it takes a second
    _keep_shared()
    send(control, {})
    fork_as_told(control, partial(model_process, backends))


def model_process(backends: Mapping[str, Backend], control: socket.socket) -> None:
    """Loads the model or script that it is sent, says what it is, and forks runners."""
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
    send(control, about)
    fork_as_told(control, partial(runner, runs))


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


def fork_as_told(control: socket.socket, body: Callable[[socket.socket], None]) -> None:
    """Forks a process that runs `body` with the socket it is given, or ends one, as long as it is told to."""
    ended: dict[int, int] = {}
    forked: set[int] = set()
    while True:
        while not select.select([control], [], [], REAP_S)[0]:
            _reap(forked, ended)
        order, file = receive_with_file(control)
        pid = order.fields.get("end")
        if pid is None:
            pid = _fork(control, file, body)
            forked.add(pid)
            ended.pop(pid, None)  # of one before that had this number
            send(control, {"pid": pid})
        else:
            if pid in forked and pid not in ended:  # else it may be another's by now
                os.kill(pid, signal.SIGKILL)
                ended[pid] = os.waitpid(pid, 0)[1]
            forked.discard(pid)
            send(control, {"status": ended.pop(pid, 0)})


def _reap(forked: set[int], ended: dict[int, int]) -> None:
    """How those that it forked ended is kept: their numbers are theirs until somebody asks."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] in forked:
                ended[found[0]] = found[1]


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
        library_process(control, sys.argv[2])
    os._exit(0)


if __name__ == "__main__":
    main()
