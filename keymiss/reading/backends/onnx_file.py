"""What has to be known of an ONNX file before ONNX Runtime opens it: a tensor of it may name another file,
from which the worker would read."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
EXTERNAL = 1

MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Of each message of onnx.proto: the fields by which one comes to tensors."""

EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor."""

MAX_DEPTH = 100


def has_external_data(blob: bytes) -> bool:
    """True if a tensor of it lies in another file. What is no ONNX file has none: its reader will say so."""
    try:
        return _external(memoryview(blob), "model", 0)
    except (IndexError, ValueError):
        return False


def _external(data: memoryview, message: str, depth: int) -> bool:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    inside = MESSAGES[message]
    for field, value in _fields(data):
        if message == "tensor" and (field == EXTERNAL_DATA or (field == DATA_LOCATION and value == EXTERNAL)):
            return True
        if field in inside and isinstance(value, memoryview) and _external(value, inside[field], depth + 1):
            return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif kind == BYTES:
            size, at = _varint(data, at)
            if size > len(data) - at:
                raise ValueError("a field is longer than what is there")
            yield tag >> 3, data[at : at + size]
            at += size
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError("not a field")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is too long")
