"""Tensors in and out, and backends: bad models and bad inputs are errors with a text."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from keymiss.models.forms import quiet
from keymiss.reading import tensors
from keymiss.reading.backends.base import ModelError
from keymiss.reading.backends.dummy import DummyBackend
from keymiss.reading.backends.onnx import OnnxBackend
from keymiss.reading.backends.table import backend_table
from keymiss.reading.backends.torchscript import TorchBackend
from keymiss.reading.reader import About, Calibration
from keymiss.reading.tensors import TensorError
from keymiss.worker.functions import redisai_api
from tests.patience import patient


@pytest.mark.parametrize("type_name", list(tensors.DTYPES))
def test_values_and_blobs_round_trip(type_name: str) -> None:
    values: list[object] = [1, 0, 1, 1, 0, 1]
    if type_name == "STRING":
        values = [f"{value}\xe9" for value in values]
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


ABOUT = About("tiny", "float32", "{}", 20, 512, Calibration(0.5, -1))


def saved(module: torch.nn.Module, *inputs: torch.Tensor, about: str | None = None) -> bytes:
    traced, buffer = torch.jit.trace(module.eval(), inputs), io.BytesIO()
    torch.jit.save(traced, buffer, _extra_files={} if about is None else {"keymiss.json": about})
    return buffer.getvalue()


class Sums(torch.nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (ids + mask).float(), (ids - mask).float()


def scripted(about: str | None = None) -> bytes:
    ids = torch.ones((1, 3), dtype=torch.int64)
    return saved(Sums(), ids, ids, about=about)


def onnx_sums(about: str | None = None, kind: int = 1) -> bytes:
    """The same in ONNX; `kind` is the type of its outputs."""
    h = onnx.helper
    ins = [h.make_tensor_value_info(name, 7, ["n", "m"]) for name in ("ids", "mask")]
    outs = [h.make_tensor_value_info(name, kind, ["n", "m"]) for name in ("sum", "difference")]
    nodes = []
    for word, output in (("Add", "sum"), ("Sub", "difference")):
        nodes.append(h.make_node(word, ["ids", "mask"], [word]))
        nodes.append(h.make_node("Cast", [word], [output], to=kind))
    opset = [h.make_opsetid("", 18)]
    made = h.make_model(h.make_graph(nodes, "sums", ins, outs), opset_imports=opset, ir_version=10)
    if about is not None:
        h.set_model_props(made, {"keymiss": about})
    return bytes(made.SerializeToString())


SUMS = {"TORCH": scripted, "ONNX": onnx_sums}
old_torch = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is


@old_torch
@pytest.mark.parametrize("name", list(SUMS))
def test_sums(name: str) -> None:
    model = backend_table("torch")[name].load(SUMS[name]())
    assert model.about is None
    ids = tensors.from_values("INT64", [1, 4], [1, 2, 3, 4])
    first, second = model.run([ids, ids])
    assert (first.type_name, first.dims) == ("FLOAT", (1, 4))
    assert redisai_api.tensor_to_flat_list(first) == [2, 4, 6, 8]
    assert redisai_api.tensor_to_flat_list(second) == [0, 0, 0, 0]
    for wrong in ([ids], [], [ids, tensors.from_values("INT64", [1, 3], [1, 2, 3])]):
        with pytest.raises(ModelError, match=r"the model run failed: .+"):
            model.run(wrong)


@old_torch
@pytest.mark.parametrize("name", list(SUMS))
def test_a_file_that_says_what_it_is(name: str) -> None:
    backend = backend_table("torch")[name]
    assert backend.load(SUMS[name](ABOUT.to_json())).about == ABOUT
    for broken in ("[]", "{}", '{"format": 7}', ABOUT.to_json()[:-5]):
        with pytest.raises(ModelError, match=r"keymiss\.json is broken: "):
            backend.load(SUMS[name](broken))


@old_torch
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_torchscript_runs_in_its_own_precision(kind: torch.dtype) -> None:
    """0.1 is another number in each; half precisions are given as FLOAT."""

    class Tenth(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tenth = torch.nn.Parameter(torch.tensor([0.1], dtype=kind))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.tenth * ids

    model = TorchBackend().load(saved(Tenth(), torch.ones(1, dtype=torch.int64)))
    (output,) = model.run([tensors.from_values("INT64", [1], [1])])
    assert output.type_name == ("DOUBLE" if kind == torch.float64 else "FLOAT")
    assert output.array.tolist() == torch.tensor([0.1], dtype=kind).tolist()


@old_torch
def test_torchscript_int8() -> None:
    from torch.ao.quantization import quantize_dynamic

    linear, row = torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.rand(2, 4)
    with quiet():
        small = quantize_dynamic(linear, {torch.nn.Linear}, dtype=torch.qint8)
    (output,) = TorchBackend().load(saved(small, row)).run([tensors.from_array(row.numpy())])
    assert np.array_equal(output.array, small(row).numpy())
    assert np.allclose(output.array, linear(row).detach().numpy(), atol=0.05)


def test_onnx_gives_half_as_float() -> None:
    model, ids = OnnxBackend().load(onnx_sums(kind=10)), tensors.from_values("INT64", [1, 1], [3])
    assert [output.type_name for output in model.run([ids, ids])] == ["FLOAT", "FLOAT"]


@pytest.mark.parametrize("blob", [b"", b"not a model", onnx_sums()[:-20]])
def test_a_blob_that_is_no_onnx(blob: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        OnnxBackend().load(blob)


def test_backends_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(backend_table("torch")) == ["ONNX", "TORCH"]
    monkeypatch.setattr("keymiss.reading.backends.table.find_spec", lambda name: None)
    assert list(backend_table("torch")) == ["TORCH"]


@old_torch
def test_a_worker_needs_no_transformers() -> None:
    code = (
        "import sys; from keymiss.reading.backends.table import backend_table\n"
        "print(len(backend_table('torch')), [m for m in ('torch', 'onnxruntime') if m in sys.modules])\n"
        "[backend_table('torch')[n].load(bytes.fromhex(sys.stdin.readline())) for n in ('TORCH', 'ONNX')]\n"
        "print([m for m in ('transformers', 'onnx', 'onnxscript') if m in sys.modules])"
    )
    given = "".join(f"{make().hex()}\n" for make in SUMS.values())
    order = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(order, input=given, capture_output=True, text=True, timeout=patient(100))
    assert done.stdout.splitlines() == ["2 []", "[]"], done.stderr


@pytest.mark.parametrize("blob", [b"", b"not a model", b"PK\x03\x04" + b"\0" * 64])
def test_a_blob_that_is_no_torchscript(blob: bytes) -> None:
    with pytest.raises(ModelError, match="not a TorchScript model"):
        TorchBackend().load(blob)


@pytest.mark.parametrize("blob", [b"", b"[]", b'{"outputs": "x"}'])
def test_a_blob_that_is_no_dummy(blob: bytes) -> None:
    with pytest.raises(ModelError, match="not a dummy model"):
        DummyBackend().load(blob)
