"""Models in processes of their own: what ends a run ends nothing else, and no process is left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from prometheus_client import CollectorRegistry

from keymiss.reading import tensors
from keymiss.reading.backends.base import ModelError
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.run_terms import RunTerms
from keymiss.worker.metrics import RunnerMetrics
from keymiss.worker.model_processes import frames, libraries, pool
from keymiss.worker.model_processes.forking import ForkingProcess, ProcessLost
from keymiss.worker.model_processes.libraries import Libraries, LoadedModel
from keymiss.worker.model_processes.memory import family_of, memory_of
from keymiss.worker.model_processes.pool import ANY_TERMS, ModelPool
from keymiss.worker.model_processes.run_queue import OTHERS_AFTER, ModelResult, ModelRun, RunQueue
from keymiss.worker.model_processes.runner import MOST_BUFFERS
from keymiss.worker.model_processes.start import (
    FOUND,
    Started,
    found_library_process,
    start_library_process,
)
from tests.patience import patient
from tests.servers import stand_still, wait_until

ONE = tensors.from_values("FLOAT", [1], [1])
EVER_MS = 3_600_000
old_torch = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is


class Processes:
    """A pool of two, and the library process."""

    def __init__(self, choice: str, limit_s: float = 600, libraries: Libraries | None = None) -> None:
        self.dead: list[str] = []
        self.registry = CollectorRegistry()
        self.libraries = libraries or Libraries(choice)
        self.pool = ModelPool(2, limit_s, RunnerMetrics(self.registry), self.dead.append)
        self.pool.start()

    def load(self, blob: bytes, backend: str = "TORCH", digest: str = "") -> LoadedModel:
        with os.fdopen(os.memfd_create("test"), "r+b", buffering=0) as file:
            file.write(blob)
            return self.libraries.load(backend, file.fileno(), digest)

    def dummy(self, **spec: Any) -> LoadedModel:
        return self.load(json.dumps(spec).encode())

    def start(self, model: LoadedModel, *inputs: Tensor, terms: RunTerms = ANY_TERMS) -> Future[ModelResult]:
        return self.pool.submit(model, inputs, terms)

    def run(self, model: LoadedModel, *inputs: Tensor) -> list[Tensor]:
        return self.start(model, *inputs).result(patient(60)).outputs

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"keymiss_worker_{name}", labels) or 0.0


def error_of(run: Future[Any]) -> str:
    error = run.exception(patient(60))
    assert isinstance(error, ModelError)
    return str(error)


def runners_of(model: LoadedModel) -> list[int]:
    return runners_of_pid(model.pid)


def runners_of_pid(pid: int) -> list[int]:
    return family_of(pid)[1:]


def running(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    return memory_of(pid) > 0


def processes(choice: str) -> Iterator[Processes]:
    made = Processes(choice)
    yield made
    made.libraries.stop()
    assert not made.dead


@pytest.fixture
def dummies() -> Iterator[Processes]:
    yield from processes("dummy")


@pytest.fixture(scope="module")
def real() -> Iterator[Processes]:
    yield from processes("torch")


# ---- frames


@pytest.mark.parametrize("type_name", list(tensors.DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3), (300, 301)])
def test_tensors_of_all_types_and_shapes_arrive(type_name: str, shape: tuple[int, ...]) -> None:
    dtype = tensors.DTYPES[type_name]
    values = np.arange(np.prod(shape, dtype=int)) % 2
    if type_name == "STRING":
        values = np.array([f"\xe9{value}" for value in values])
    array = values.astype(dtype).reshape(shape)
    odd = tensors.from_values("UINT8", [3], [1, 2, 3])
    buffers = frames.packed({"a": "b"}, [odd, Tensor(array), Tensor(array.T), odd])
    frame = read(b"".join(buffers))
    assert frame.fields == {"a": "b"}
    assert [tensor.dims for tensor in frame.tensors] == [(3,), shape, shape[::-1], (3,)]
    for got, sent in zip(frame.tensors, (odd.array, array, array.T, odd.array), strict=True):
        assert got.array.dtype == sent.dtype
        assert np.array_equal(got.array, sent)
        assert got.array.flags.aligned


def read(raw: bytes) -> frames.Frame:
    """A frame that comes in pieces."""
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        reader, found = frames.FrameReader(), None
        for at in range(0, len(raw), 99_999):
            near.sendall(raw[at : at + 99_999])
            assert found is None
            found = reader.read(far)
        assert found is not None
        near.close()
        with pytest.raises(EOFError):
            reader.read(far)
        return found


def test_frames_that_come_together() -> None:
    """Small ones in one piece, and a large one behind them that is not all there."""
    arrays = [np.arange(size) for size in (1, 0, 5, 100_000)]
    raw = b"".join(b"".join(frames.packed({"n": len(array)}, [Tensor(array)])) for array in arrays)
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        reader = frames.FrameReader(at_once=frames.AT_ONCE_BYTES)
        near.sendall(raw[:1000])
        found = [reader.read(far), reader.next(), reader.next()]
        assert reader.next() is None
        assert reader.read(far) is None
        for at in range(1000, len(raw), 99_999):
            near.sendall(raw[at : at + 99_999])
            found.append(reader.read(far))
    whole = [frame for frame in found if frame is not None]
    assert [frame.fields["n"] for frame in whole] == [1, 0, 5, 100_000]
    assert all(np.array_equal(f.tensors[0].array, a) for f, a in zip(whole, arrays, strict=True))


@pytest.mark.parametrize(
    "raw", [b"\xff" * 12, frames._SIZES.pack(8, 0) + b"no json!", frames._SIZES.pack(2, 0) + b"[]"]
)
def test_bytes_that_are_no_frame(raw: bytes) -> None:
    with pytest.raises(frames.FrameError):
        read(raw)


def test_a_run_too_large_to_be_sent(dummies: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dummies.dummy()
    monkeypatch.setattr(frames, "MAX_TENSORS_BYTES", 100)
    large = Tensor(np.zeros(26, np.float32))
    assert "104 bytes are more than 100" in error_of(dummies.start(model, large))
    assert dummies.run(model, ONE)[0].dims == (1,)


@pytest.mark.parametrize("file", [-1, 0])
def test_what_a_process_said_before_it_ended_is_its_answer(file: int) -> None:
    """Also when it ends before all of the question is sent."""
    near, far = socket.socketpair()
    with near, far:
        frames.send(far, {"error": "its own"})
        far.close()
        assert ForkingProcess(near).ask({"backend": "TORCH"}, file).fields == {"error": "its own"}


def test_one_that_said_nothing_is_lost() -> None:
    near, far = socket.socketpair()
    with near:
        far.close()
        with pytest.raises(ProcessLost, match="EOFError"):
            ForkingProcess(near).ask({})


# ---- runs


def test_runs_of_many_sizes_at_once(dummies: Processes) -> None:
    """Also such as fit into no socket."""
    model = dummies.dummy(outputs=2)
    given = [Tensor(np.full((size, 7), size, np.int64)) for size in [*range(1, 65), 10_000, 100_000, 5]]
    runs = [dummies.start(model, tensor) for tensor in given]
    for run, tensor in zip(runs, given, strict=True):
        first, second = run.result(patient(60)).outputs
        assert np.array_equal(first.array, tensor.array.astype(np.float32))
        assert np.array_equal(second.array, first.array + 1)
    assert dummies.pool.runners() == 2
    assert dummies.count("model_runners_started_total") == 2


def test_a_run_of_more_buffers_than_the_kernel_takes_at_once(dummies: Processes) -> None:
    large = Tensor(np.full(frames.COPIED_BYTES + 1, 7, np.uint8))
    assert len(frames.packed({}, [large] * 600)) > MOST_BUFFERS
    (first,) = dummies.run(dummies.dummy(), *[large] * 600)
    assert np.array_equal(first.array, large.array.astype(np.float32))


def test_runs_that_go_together_are_done_in_turn_by_one_process(dummies: Processes) -> None:
    model = dummies.dummy(outputs=2, delay_ms=200)
    given = [tensors.from_values("INT64", [size], [size] * size) for size in (3, 1, 2)]
    together = dummies.pool.submit_in_turn(model, [[one, ONE] for one in given], ANY_TERMS)
    alone = dummies.start(model, ONE)
    assert dummies.pool.pending() == 4
    result = together.result(patient(60))
    for made, one in zip(result.outputs_of_each, given, strict=True):
        assert [tensor.array.tolist() for tensor in made] == [
            one.array.tolist(),
            (one.array + 1).tolist(),
        ]
    assert min(result.took_us) >= 200_000
    assert result.duration_us == sum(result.took_us)
    assert len(alone.result(patient(60)).took_us) == 1
    wait_until(lambda: dummies.pool.pending() == 0, 10, "none is pending")


def test_runs_that_go_together_fail_together(dummies: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = dummies.dummy(fail="no luck")
    assert error_of(dummies.pool.submit_in_turn(bad, [[ONE], [ONE]], ANY_TERMS)).endswith("no luck")
    monkeypatch.setattr(frames, "MAX_TENSORS_BYTES", 16)
    too_large = dummies.pool.submit_in_turn(dummies.dummy(), [[ONE], [ONE], [ONE]], ANY_TERMS)
    assert "are more than 16" in error_of(too_large)


def test_failed_runs_are_answered_and_the_others_go_on(dummies: Processes) -> None:
    good, bad = dummies.dummy(), dummies.dummy(fail="no luck")
    runs = [dummies.start(model, ONE) for model in (bad, good, bad, good)]
    failed = "the model run failed: no luck"
    assert [str(run.exception(patient(60))) for run in runs] == [failed, "None", failed, "None"]
    assert dummies.count("model_runs_ended_total", reason="crashed") == 0


@pytest.mark.parametrize(
    ("blob", "backend", "text"),
    [
        (b"{", "TORCH", "not a dummy model"),
        (b"{}", "FLAX", "FLAX models do not run here: DUMMY"),
    ],
)
def test_what_cannot_be_loaded(dummies: Processes, blob: bytes, backend: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        dummies.load(blob, backend)
    assert dummies.run(dummies.dummy(), ONE)


def test_a_load_that_takes_too_long(dummies: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    dummies.run(dummies.dummy(), ONE)
    monkeypatch.setattr(libraries, "LOAD_LIMIT_S", 0.0)
    with pytest.raises(ModelError, match="not loaded within 0 s; it is tried again when it is stored again"):
        dummies.dummy()
    monkeypatch.undo()
    assert dummies.run(dummies.dummy(), ONE)


# ---- runs that end with their process


class Endless(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool((x * x >= 0).all()):
            x = x + 1
        return x


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Reads(torch.nn.Module):
    """Large enough for torch to want several threads."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = torch.nn.Embedding(100, 1024), torch.nn.Linear(1024, 1024)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(self.layer(self.words(ids)))


def script(module: torch.nn.Module, extra: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer, _extra_files=extra or {})
    return buffer.getvalue()


def onnx_model(nodes: list[Any], initializers: list[Any]) -> bytes:
    h = onnx.helper
    x, y = (h.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = h.make_graph(nodes, "g", [x], [y], initializers)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=10)
    return bytes(made.SerializeToString())


def endless_onnx() -> bytes:
    h = onnx.helper
    of_body = [
        h.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (("i", 7, []), ("go", 9, []), ("v", 1, [1]), ("on", 9, []), ("w", 1, [1]))
    ]
    steps = [h.make_node("Identity", ["go"], ["on"]), h.make_node("Add", ["v", "v"], ["w"])]
    body = h.make_graph(steps, "body", of_body[:3], of_body[3:])
    constants = [
        h.make_tensor("trips", 7, [], [2**62]),
        h.make_tensor("true", 9, [], [True]),
    ]
    return onnx_model([h.make_node("Loop", ["trips", "true", "x"], ["y"], body=body)], constants)


def twice_onnx() -> bytes:
    return onnx_model([onnx.helper.make_node("Add", ["x", "x"], ["y"])], [])


ENDLESS: dict[str, tuple[Callable[[], bytes], Callable[[], bytes]]] = {
    "TORCH": (lambda: script(Endless()), lambda: script(Twice())),
    "ONNX": (endless_onnx, twice_onnx),
}


@old_torch
@pytest.mark.parametrize("backend", list(ENDLESS))
def test_a_run_that_never_ends_is_ended_and_nothing_else(real: Processes, backend: str) -> None:
    """Both cores are taken by such: others have one again as soon as the time of the first is over."""
    endless, twice = (real.load(make(), backend) for make in ENDLESS[backend])
    before = real.count("model_runs_ended_total", reason="overdue")
    assert real.run(twice, ONE)[0].array.tolist() == [2.0]
    now_s = time.monotonic()
    late = [real.start(endless, ONE, terms=RunTerms(now_s + s, "the setting")) for s in (1.0, 2.0)]
    wait_until(lambda: len(runners_of(endless)) == 2)
    waits = real.start(twice, ONE)
    for run in late:
        assert error_of(run) == "the model run took too long and was ended: the setting"
    assert waits.result(patient(60)).outputs[0].array.tolist() == [2.0]
    assert real.count("model_runs_ended_total", reason="overdue") - before == 2
    assert runners_of(endless) == []
    again = real.start(endless, ONE, terms=RunTerms(time.monotonic() + 0.5, "the setting"))
    assert "took too long" in error_of(again)


def test_the_limit_of_a_run_that_nobody_waits_for() -> None:
    made = Processes("dummy", limit_s=0.5)
    text = "the model run took too long and was ended: --model-limit-s of the worker, 0.5 s"
    assert error_of(made.start(made.dummy(delay_ms=EVER_MS), ONE)) == text
    made.libraries.stop()


def test_a_run_whose_time_is_over_before_it_begins(dummies: Processes) -> None:
    slow = dummies.dummy(delay_ms=EVER_MS)
    end_s = time.monotonic() + patient(3)
    hogs = [dummies.start(slow, ONE, terms=RunTerms(end_s, "x")) for _ in range(2)]
    wait_until(lambda: dummies.pool.runners() == 2)
    waits = dummies.start(dummies.dummy(), ONE, terms=RunTerms(time.monotonic() + 0.2, "the setting"))
    assert error_of(waits) == "no model process was free in time: the setting"
    for hog in hogs:
        assert "took too long" in error_of(hog)


@pytest.mark.parametrize(
    ("number", "text"), [(signal.SIGKILL, "killed (SIGKILL): out of memory?"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_a_runner_that_dies_fails_its_run_only(dummies: Processes, number: int, text: str) -> None:
    """The one that had been sent after it goes to another."""
    model = dummies.dummy(delay_ms=1500)
    runs = [dummies.start(model, ONE) for _ in range(4)]
    wait_until(lambda: sum(run.running() for run in runs) == 3)  # two are being done, one is sent after one
    os.kill(runners_of(model)[0], number)
    errors = [run.exception(patient(60)) for run in runs]
    assert [str(e) for e in errors if e] == [f"the process ended in the model run: {text}"]
    assert dummies.count("model_runs_ended_total", reason="crashed") == 1
    assert dummies.run(model, ONE)


def test_a_runner_that_is_ended_while_it_has_nothing_to_do(dummies: Processes) -> None:
    model = dummies.dummy()
    dummies.run(model, ONE)
    (runner,) = runners_of(model)
    os.kill(runner, signal.SIGKILL)
    wait_until(lambda: dummies.pool.runners() == 0)
    assert dummies.run(model, ONE)


def test_the_process_of_a_model_ends(dummies: Processes) -> None:
    model, other = dummies.dummy(), dummies.dummy()
    dummies.run(model, ONE)
    os.kill(model.pid, signal.SIGKILL)
    wait_until(lambda: dummies.pool.runners() == 0)
    assert error_of(dummies.start(model, ONE)) == "the model's process ended: ask again"
    assert model.lost
    assert dummies.run(other, ONE)


def test_the_library_process_ends(dummies: Processes) -> None:
    model = dummies.dummy()
    dummies.run(model, ONE)
    library, *rest = dummies.libraries.pids()
    os.kill(library, signal.SIGKILL)
    wait_until(lambda: not any(map(running, rest)))
    assert dummies.run(dummies.dummy(), ONE)
    assert dummies.libraries.pids()[0] != library


# ---- processes go


def test_runners_that_had_nothing_to_do(dummies: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each model stays, and another is started when there is more to do."""
    models = dummies.dummy(delay_ms=300), dummies.dummy()
    for _ in range(2):
        assert all(run.result(patient(60)) for run in [dummies.start(models[0], ONE) for _ in range(2)])
        assert dummies.run(models[1], ONE)
        assert [len(runners_of(model)) for model in models] == [2, 1]
        monkeypatch.setattr(pool, "IDLE_RUNNER_S", 0.0)
        wait_until(lambda: len(runners_of(models[0])) == 1)
        monkeypatch.undo()
    assert [len(runners_of(model)) for model in models] == [1, 1]
    assert dummies.pool.runners() == 2
    assert dummies.count("model_runs_ended_total", reason="crashed") == 0


def test_a_model_that_nobody_has_any_more(dummies: Processes) -> None:
    stays, goes = dummies.dummy(), dummies.dummy()
    assert dummies.run(goes, ONE)
    assert dummies.run(stays, ONE)
    pids = family_of(goes.pid)
    assert len(pids) == 2
    del goes
    wait_until(lambda: len(dummies.libraries.pids()) == 3, what="no zombie either")
    assert not any(map(running, pids))
    assert dummies.run(stays, ONE)


# ---- a worker dies


WORKER = """
import os, sys
from pathlib import Path
from keymiss.reading.tensors import from_values
from keymiss.worker.model_processes.frames import send
from keymiss.worker.model_processes.libraries import Libraries
from keymiss.worker.model_processes.start import found_library_process, start_library_process
socket = Path(sys.argv[1])
started = found_library_process(socket) or start_library_process("dummy", socket)
libraries, there = Libraries("dummy", started, socket), []
for digest in sys.argv[3:]:
    file = os.memfd_create("model")
    os.write(file, sys.argv[2].encode())
    there.append(libraries.kept("TORCH", digest) or libraries.load("TORCH", file, digest))
dropped = there.pop(0)
del dropped
runner, to = there[-1].process.fork()
send(to, {}, [from_values("FLOAT", [1], [1])])
print(libraries.pids()[0], *(model.pid for model in there), runner, flush=True)
sys.stdin.read()
"""


@contextmanager
def worker_that_dies(at: Path, *digests: str, spec: Mapping[str, Any] = {}) -> Iterator[list[int]]:
    """The library process, the models but for the first, which it has no more use for, and a runner of the
    last one."""
    command = [sys.executable, "-c", WORKER, str(at), json.dumps(spec), *digests]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        yield [int(pid) for pid in worker.stdout.readline().split()]
        worker.kill()


def found(at: Path) -> Processes:
    started: list[Started | None] = [None]
    wait_until(lambda: started.append(found_library_process(at)) or started[-1], what="it waits")
    return Processes("dummy", libraries=Libraries("dummy", started[-1], at))


def test_the_next_worker_gets_the_models(tmp_path: Path) -> None:
    """Those that are still wanted; the others have ended."""
    at = tmp_path / "libraries"
    with worker_that_dies(at, "dropped", "one", "two") as (library, one, two, _):
        os.kill(two, signal.SIGKILL)
        assert found_library_process(at) is None
    after = found(at)
    assert after.libraries.pids()[0] == library
    assert after.libraries.kept("TORCH", "dropped") is None
    assert after.libraries.kept("TORCH", "two") is None
    assert after.libraries.kept("ONNX", "one") is None
    kept = after.libraries.kept("torch", "one")
    assert kept is not None
    assert kept.pid == one
    assert after.run(kept, ONE)
    assert after.libraries.kept("TORCH", "one") is None, "it is taken"
    assert after.run(after.load(b"{}", digest="two"), ONE)
    after.libraries.stop()
    wait_until(lambda: not any(map(running, (library, one))))
    assert not after.dead


def test_a_run_ends_with_the_worker_and_the_model_stays(tmp_path: Path) -> None:
    at = tmp_path / "libraries"
    with worker_that_dies(at, "dropped", "one", spec={"delay_ms": EVER_MS}) as (_, one, run):
        assert runners_of_pid(one) == [run]
    after = found(at)
    wait_until(lambda: not running(run))
    assert running(one)
    after.libraries.stop()


def test_a_model_that_a_living_worker_has_given_up_ends(tmp_path: Path) -> None:
    """It answered too late: it is not kept for the next worker."""
    processes = Processes("dummy", libraries=Libraries("dummy", waits_at=tmp_path / "libraries"))
    model = processes.load(b"{}", digest="one")
    stand_still(model.pid)
    near, far = socket.socketpair()
    with near, far, pytest.raises(ProcessLost):
        model.process.ask({}, far.fileno(), limit_s=0.1)
    os.kill(model.pid, signal.SIGCONT)
    wait_until(lambda: not running(model.pid))
    processes.libraries.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_what_another_user_has_put_there_is_no_library_process(tmp_path: Path) -> None:
    """It would get all inputs, and give all answers."""
    at = tmp_path / "libraries"
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor() as threads:
        listening.bind(str(at))
        os.seteuid(65534)
        listening.listen()
        os.seteuid(0)
        files = threads.submit(files_of_greeting, listening)
        assert found_library_process(at) is None
        assert files.result(patient(20)) == []


def test_one_of_another_build_is_left_alone(tmp_path: Path) -> None:
    at = tmp_path / "libraries"
    for said, found in ((FOUND, True), (b"!", False)):
        with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor() as threads:
            listening.bind(str(at))
            listening.listen()
            threads.submit(files_of_greeting, listening, said)
            started = found_library_process(at)
            assert (started is not None) is found
            if started is not None:
                started.control.close()
        at.unlink()


def files_of_greeting(listening: socket.socket, said: bytes = FOUND) -> list[int]:
    """What a worker that comes sends along."""
    worker, _ = listening.accept()
    with worker, suppress(ConnectionError):
        worker.sendall(said)
        return list(socket.recv_fds(worker, 1, 1)[1])
    return []


def test_a_library_process_that_no_worker_comes_for_ends(tmp_path: Path) -> None:
    """By itself, or at once when everything is stopped."""
    sockets = [tmp_path / name for name in ("waits", "stopped")]
    pids = []
    for at in sockets:
        with worker_that_dies(at, "dropped", "one") as (library, *_):
            pids.append(library)
    wait_until(sockets[1].exists)
    os.kill(pids[1], signal.SIGTERM)
    wait_until(lambda: not running(pids[1]), 5, "it is told to end")
    wait_until(lambda: not running(pids[0]), 30, "nobody comes")
    assert found_library_process(sockets[0]) is None


def test_stop_does_not_wait_for_a_start() -> None:
    """Nor does whoever asks for the memory of all processes; and nothing is started afterwards."""
    made = Libraries("torch", start_library_process("torch"))
    errors: list[BaseException] = []

    def load() -> None:
        try:
            made.load("TORCH", 0, "")
        except ModelError as error:
            errors.append(error)

    (library,) = made.pids()
    stand_still(library)  # its start takes for ever
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert made.pids() == [library]
    made.stop()
    for thread in threads:
        thread.join(patient(20))
    assert [str(error).endswith(": ask again") for error in errors] == [True, True]
    assert made.pids() == []
    assert not running(library)


def state_of(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


@old_torch
def test_who_forks_has_no_threads(real: Processes) -> None:
    """But for one that onnxruntime starts when it is imported, and that waits."""
    models = [real.load(make(), backend) for backend, (_, make) in ENDLESS.items()]
    ran = real.load(script(Reads(), {"keymiss.json": About("x", "float32", "{}", 100, 512).to_json()}))
    assert ran.about is not None
    pids = (real.libraries.pids()[0], models[0].pid, ran.pid, models[1].pid)
    for pid, most in zip(pids, (1, 1, 1, 2), strict=True):
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        assert len(threads) <= most
        wait_until(lambda threads=threads: set(map(state_of, threads)) == {"S"})  # type: ignore[misc]


@old_torch
def test_who_forks_has_no_pages_of_libraries(real: Processes) -> None:
    """What importing and loading read of their files; who runs the model has what that needs."""
    model = real.load(script(Twice()))
    assert real.run(model, ONE)[0].array.tolist() == [2.0]
    mb = [files_of(pid) / 1e6 for pid in (real.libraries.pids()[0], model.pid, *runners_of(model))]
    assert [one < 15 for one in mb] == [True, True, False], mb


def files_of(pid: int) -> int:
    """Bytes of files that are in memory for the process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return 1024 * (found["Rss:"] - found["Anonymous:"])


def test_stop_ends_all(dummies: Processes) -> None:
    model = dummies.dummy(delay_ms=EVER_MS)
    run = dummies.start(model, ONE)
    wait_until(run.running)
    pids = dummies.libraries.pids()
    assert len(pids) == 3
    dummies.libraries.stop()
    wait_until(lambda: not any(map(running, pids)))
    assert "the process ended in the model run" in error_of(run)


# ---- the queue


def test_who_waits_goes_first_but_not_always() -> None:
    queue = RunQueue()
    urgent, others = RunTerms(), RunTerms(urgent=False)
    model: Any = None
    for terms in (others, others, *[urgent] * (OTHERS_AFTER + 2)):
        queue.add(ModelRun(model, [], terms))
    order = []
    while (run := queue.take(lambda run: True)) is not None:
        order.append(run.terms.urgent)
    assert order == [True] * OTHERS_AFTER + [False] + [True] * 2 + [False]
