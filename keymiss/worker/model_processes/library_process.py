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

from keymiss.for_good import for_good
from keymiss.logs import one_line
from keymiss.reading.backends.base import Backend, FileModel, ModelError
from keymiss.reading.backends.table import backend_table
from keymiss.reading.backends.torch_script import TorchScript
from keymiss.reading.tensors import Tensor
from keymiss.worker.model_processes.asks import AsksOfScript
from keymiss.worker.model_processes.forks import (
    ENDING,
    KEPT_S,
    Forking,
    ForkingModels,
    received_files,
    say_it_there,
    tell,
)
from keymiss.worker.model_processes.frames import (
    AT_ONCE_BYTES,
    RUNS,
    FrameError,
    FrameReader,
    parted,
    receive_with_file,
    send,
)
from keymiss.worker.model_processes.memory import release_freed, unmap_files
from keymiss.worker.model_processes.start import FOUND
from keymiss.worker.model_processes.warming import warm

PR_SET_CHILD_SUBREAPER = 36
KILLED_FIRST = "500"  # of -1000 to 1000: a run that takes all memory goes before a shard does
NEXT_WORKER_S = 10.0  # a supervisor starts it at once
IDLE_S = 1  # after so long a runner gives the system back what memory its runs took

_libc = ctypes.CDLL(None)

Runs = Callable[[Mapping[str, Any], list[Tensor], AsksOfScript], list[Tensor]]
"""What a runner does with a run: its fields, its tensors."""


def library_process(control: socket.socket, choice: str, waits_at: Path | None) -> None:
    """Imports the libraries, says so, and forks processes for models and scripts; for the next worker too."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # of runners whose model's process has ended
    told_to_end: list[int] = []
    for number in ENDING:  # the worker gets them too, and finishes what runs
        signal.signal(number, lambda number, _: told_to_end.append(number))
    with for_good():
        backends = backend_table(choice)
        backends["TORCH"].prepare_thread()  # most models want it, and it takes a second
    _keep_shared()
    models = ForkingModels(partial(model_process, backends))
    send(control, {})
    worker: socket.socket | None = control
    while worker is not None:
        with worker, suppress(EOFError):
            models.obey(worker)
        models.keep()
        worker = None if waits_at is None or told_to_end else _next_worker(waits_at)


def _next_worker(waits_at: Path) -> socket.socket | None:
    before = [signal.signal(number, signal.SIG_DFL) for number in ENDING]
    waits_at.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening, suppress(TimeoutError):
        mask = os.umask(0o177)
        listening.bind(str(waits_at))
        os.umask(mask)
        listening.listen(1)
        listening.settimeout(NEXT_WORKER_S)
        while True:
            worker, _ = listening.accept()
            with suppress(OSError, EOFError):  # that one has died, too
                worker.settimeout(NEXT_WORKER_S)
                say_it_there(*received_files(worker, 1))
                worker.sendall(FOUND)
                worker.settimeout(None)
                send(worker, {})
                for number, handler in zip(ENDING, before, strict=True):
                    signal.signal(number, handler)
                return worker
            worker.close()
    return None


def model_process(
    backends: Mapping[str, Backend], control: socket.socket, handed_over: socket.socket | None = None
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
        with control, suppress(EOFError):
            tell(control, about)
            runners.obey(control)
            return
        runners.end_all()
        if handed_over is None:
            return
        handed_over.settimeout(KEPT_S + NEXT_WORKER_S)  # nobody may know of this process any more
        number, said = received_files(handed_over, 2)
        say_it_there(said)
        control = socket.socket(fileno=number)


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
    return lambda _fields, inputs, _asks: model.run(inputs), about


def _compile(backends: Mapping[str, Backend], source: bytes, entry_points: Sequence[str]) -> Runs:
    backends["TORCH"].prepare_thread()
    try:
        script = TorchScript(source.decode("utf-8", "replace"), entry_points)
    except ImportError as error:
        raise ModelError("this worker has no TORCH: scripts do not run here") from error

    def run(fields: Mapping[str, Any], inputs: list[Tensor], asks: AsksOfScript) -> list[Tensor]:
        return script.call(calls=asks, **fields).run(inputs)

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
        try:
            outputs, took_us = list[Tensor](), list[int]()
            for inputs in parted(request.tensors, request.fields.pop(RUNS, 1)):
                began_ns = time.perf_counter_ns()
                outputs += runs(request.fields, inputs, asks)
                took_us.append((time.perf_counter_ns() - began_ns) // 1000)
            send(requests, {"took_us": took_us}, outputs)
        except (ConnectionError, EOFError):
            raise  # the worker is gone
        except Exception as error:
            send(requests, _failure(error))


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
