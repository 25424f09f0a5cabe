"""Tensors in and out, and backends: bad models and bad inputs are errors with a text."""

from __future__ import annotations

import io
import threading
from concurrent.futures import Future

import numpy as np
import pytest

from keymiss.worker import redisai_api, tensors
from keymiss.worker.model_backend import DummyBackend, ModelError, TorchBackend
from keymiss.worker.model_runner import ModelPool, ModelResult
from keymiss.worker.tensors import Tensor, TensorError


@pytest.mark.parametrize("type_name", list(tensors.DTYPES))
def test_values_and_blobs_round_trip(type_name: str) -> None:
    values = [1, 0, 1, 1, 0, 1]
    tensor = tensors.from_values(type_name, [2, 3], values)
    assert redisai_api.tensor_to_flat_list(tensor) == values
    assert redisai_api.tensor_get_dims(tensor) == (2, 3)
    blob = redisai_api.tensor_get_data_as_blob(tensor)
    again = redisai_api.create_tensor_from_blob(type_name, [2, 3], blob)
    assert again.type_name == type_name
    assert np.array_equal(again.array, tensor.array)


@pytest.mark.parametrize(
    ("type_name", "dims", "blob", "text"),
    [
        ("FLOAT", [2], b"1234", "has 8 bytes, the blob has 4"),
        ("HALF", [1], b"", "is not one of"),
        ("INT8", [-1], b"", "must not be negative"),
    ],
)
def test_bad_blobs(type_name: str, dims: list[int], blob: bytes, text: str) -> None:
    with pytest.raises(TensorError, match=text):
        tensors.from_blob(type_name, dims, blob)


@pytest.mark.parametrize(
    ("values", "text"), [([1], "has 2 values, got 1"), ([1, 300], "do not fit"), ([1, "x"], "do not fit")]
)
def test_bad_values(values: list[object], text: str) -> None:
    with pytest.raises(TensorError, match=text):
        tensors.from_values("INT8", [2], values)


def test_model_runner_takes_both_orders_of_arguments() -> None:
    tensor = tensors.from_values("INT8", [1], [1])
    run = redisai_api.create_model_runner("m")
    redisai_api.model_runner_add_input(run, "name", tensor)
    redisai_api.model_runner_add_input(run, tensor, "name")
    assert run.inputs == [tensor, tensor]


def scripted() -> bytes:
    import torch

    class Sums(torch.nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return (ids + mask).float(), (ids - mask).float()

    ids = torch.ones((1, 3), dtype=torch.int64)
    traced, buffer = torch.jit.trace(Sums(), (ids, ids)), io.BytesIO()
    torch.jit.save(traced, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript() -> None:
    model = TorchBackend().load(scripted())
    ids = tensors.from_values("INT64", [1, 4], [1, 2, 3, 4])
    first, second = model.run([ids, ids])
    assert (first.type_name, first.dims) == ("FLOAT", (1, 4))
    assert redisai_api.tensor_to_flat_list(first) == [2, 4, 6, 8]
    assert redisai_api.tensor_to_flat_list(second) == [0, 0, 0, 0]
    for wrong in ([ids], [], [ids, tensors.from_values("INT64", [1, 3], [1, 2, 3])]):
        with pytest.raises(ModelError, match=r"the model run failed: .+"):
            model.run(wrong)


@pytest.mark.parametrize("blob", [b"", b"not a model", b"PK\x03\x04" + b"\0" * 64])
def test_a_blob_that_is_no_torchscript(blob: bytes) -> None:
    with pytest.raises(ModelError, match="not a TorchScript model"):
        TorchBackend().load(blob)


@pytest.mark.parametrize("blob", [b"", b"[]", b'{"outputs": "x"}'])
def test_a_blob_that_is_no_dummy(blob: bytes) -> None:
    with pytest.raises(ModelError, match="not a dummy model"):
        DummyBackend().load(blob)


def test_the_pool_answers_failed_runs_and_goes_on() -> None:
    pool = ModelPool(2, [DummyBackend()], pytest.fail)
    pool.start()
    tensor = tensors.from_values("FLOAT", [1], [1])
    good, bad = DummyBackend().load(b"{}"), DummyBackend().load(b'{"fail": "no luck"}')

    class Broken:
        def run(self, _inputs: object) -> list[Tensor]:
            raise MemoryError("too large")

    futures: list[Future[ModelResult]] = [
        pool.submit(model, [tensor]) for model in (bad, Broken(), good, bad, good)
    ]
    texts = [str(future.exception(10)) for future in futures]
    pool.stop()
    failed = "the model run failed: no luck"
    assert texts == [failed, "MemoryError: too large", "None", failed, "None"]


def test_a_dead_model_thread_answers_and_tells() -> None:
    told, heard = [], threading.Event()

    def on_dead(text: str) -> None:
        told.append(text)
        heard.set()

    class Deadly:
        def run(self, _inputs: object) -> list[Tensor]:
            raise SystemExit("bye")

    pool = ModelPool(1, [], on_dead)
    pool.start()
    with pytest.raises(ModelError, match="model thread died"):
        pool.submit(Deadly(), []).result(10)
    assert heard.wait(10)
    assert told == ["model thread: SystemExit: bye"]
