"""Small models for tests, as files."""

from __future__ import annotations

import io

import numpy as np
import torch


class Adds(torch.nn.Module):
    """Two inputs, one output."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class SumOfRows(torch.nn.Module):
    """As many rows out as were put in, but for the second output."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.sum(1), x.sum(1)[:1]


class NumberOfRows(torch.nn.Module):
    """Says in each row how many were run together."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full([x.shape[0], 1], float(x.shape[0]))


def torch_blob(module: torch.nn.Module) -> bytes:
    """Compiled and saved."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


# ---- ONNX files, written by hand: the worker has no library that makes them ----


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


FLOAT, STRING = 1, 8


def _value(name: str, type_: bytes) -> bytes:
    return _field(1, name.encode()) + _field(2, type_)


def tensor_type(kind: int, rank: int) -> bytes:
    """A tensor whose dimensions may be anything."""
    shape = b"".join(_field(1, _field(2, f"d{number}".encode())) for number in range(rank))
    return _field(1, _field(1, kind) + _field(2, shape))


def onnx_blob(op: str, inputs: dict[str, bytes], outputs: dict[str, bytes], **tensor: bytes) -> bytes:
    """One operator. `tensor`: an initializer's name and message."""
    node = b"".join(_field(1, name.encode()) for name in [*inputs, *tensor])
    node += b"".join(_field(2, name.encode()) for name in outputs) + _field(4, op.encode())
    graph = _field(1, node) + _field(2, b"g")
    graph += b"".join(_field(5, message) for message in tensor.values())
    graph += b"".join(_field(11, _value(*one)) for one in inputs.items())
    graph += b"".join(_field(12, _value(*one)) for one in outputs.items())
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 13))


def identity_of_strings() -> bytes:
    """STRING [n, m] to the same."""
    kind = tensor_type(STRING, 2)
    return onnx_blob("Identity", {"in": kind}, {"out": kind})


def adds_stored(external: bool) -> bytes:
    """x + [1, 2], which lies in the file or in another."""
    head = _field(1, 2) + _field(2, FLOAT) + _field(8, b"y")
    data = _field(9, np.array([1, 2], np.float32).tobytes())
    if external:
        data = _field(13, _field(1, b"location") + _field(2, b"/etc/passwd")) + _field(14, 1)
    kind = tensor_type(FLOAT, 1)
    return onnx_blob("Add", {"x": kind}, {"sum": kind}, y=head + data)


def sequence_of_two() -> bytes:
    """The inputs as a sequence."""
    kind = tensor_type(FLOAT, 1)
    return onnx_blob("SequenceConstruct", {"a": kind, "b": kind}, {"both": _field(4, _field(1, kind))})
