"""Tensors between Redis (AI.TENSORSET / AI.TENSORGET), gears functions and the model backends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # whoever only runs models needs no client of Redis
    from keymiss.cluster.shard_connection import ShardConnection

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype("<f4"),
    "DOUBLE": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "BOOL": np.dtype("?"),
    "STRING": np.dtype(object),
}
_TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorError(Exception):
    """A tensor that does not exist, or whose type, shape or bytes do not fit; the text says which."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A dense tensor; `array` has one of `DTYPES`. Strings are Python's, in an array of objects."""

    array: NDArray[Any]

    @property
    def type_name(self) -> str:
        """FLOAT, INT64, ..."""
        return _TYPE_NAMES[self.array.dtype]

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape; () for a scalar."""
        return self.array.shape

    @property
    def blob(self) -> bytes:
        """Little-endian, in C order; strings as UTF-8, a NUL behind each."""
        if self.type_name != "STRING":
            return self.array.tobytes()
        return b"".join(_encode(text) + b"\0" for text in self.array.ravel().tolist())

    def __repr__(self) -> str:
        return f"Tensor({self.type_name}, {list(self.dims)})"


def _dtype(type_name: str) -> np.dtype[Any]:
    dtype = DTYPES.get(str(type_name).upper())
    if dtype is None:
        raise TensorError(f"tensor type {type_name!r} is not one of {', '.join(DTYPES)}")
    return dtype


def _shape(dims: Iterable[Any]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in dims)
    if any(size < 0 for size in shape):
        raise TensorError(f"tensor dimensions must not be negative: {list(shape)}")
    return shape


def _encode(text: object) -> bytes:
    return str(text).encode("utf-8", "surrogateescape")


def _strings(shape: tuple[int, ...], texts: list[Any]) -> Tensor:
    if len(texts) != prod(shape):
        raise TensorError(f"a tensor of shape {list(shape)} has {prod(shape)} values, got {len(texts)}")
    array = np.empty(len(texts), dtype=object)
    array[:] = [
        text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text for text in texts
    ]
    if any(not isinstance(text, str) or "\0" in text for text in array):
        raise TensorError("values do not fit STRING: each is a text without NUL")
    return Tensor(array.reshape(shape))


def from_blob(type_name: str, dims: Iterable[Any], blob: bytes | bytearray | memoryview) -> Tensor:
    """A tensor of little-endian, C-order bytes. TensorError if their number does not fit."""
    dtype, shape = _dtype(type_name), _shape(dims)
    if dtype.kind == "O":
        *texts, rest = bytes(blob).split(b"\0")
        if rest:
            raise TensorError("the last string of a STRING tensor's blob has no NUL behind it")
        return _strings(shape, texts)
    expected = prod(shape) * dtype.itemsize
    if len(blob) != expected:
        raise TensorError(
            f"a {type_name} tensor of shape {list(shape)} has {expected} bytes, the blob has {len(blob)}"
        )
    return Tensor(np.frombuffer(bytes(blob), dtype=dtype).reshape(shape))


def from_values(type_name: str, dims: Iterable[Any], values: Iterable[Any]) -> Tensor:
    """A tensor of values in C order. TensorError if their number or range does not fit."""
    dtype, shape = _dtype(type_name), _shape(dims)
    flat = list(values)
    if dtype.kind == "O":
        return _strings(shape, flat)
    if len(flat) != prod(shape):
        raise TensorError(f"a tensor of shape {list(shape)} has {prod(shape)} values, got {len(flat)}")
    try:
        return Tensor(np.array(flat, dtype=dtype).reshape(shape))
    except (OverflowError, ValueError, TypeError) as error:
        raise TensorError(f"values do not fit {type_name}: {error}") from error


def from_array(array: NDArray[Any]) -> Tensor:
    """A tensor of what a model gave; half precision becomes FLOAT, other types raise TensorError."""
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype not in _TYPE_NAMES:
        raise TensorError(f"a tensor cannot hold {array.dtype}")
    return Tensor(np.ascontiguousarray(array).reshape(array.shape))


def set_command(key: str | bytes, tensor: Tensor) -> list[object]:
    """The AI.TENSORSET command that stores it."""
    return ["AI.TENSORSET", key, tensor.type_name, *tensor.dims, "BLOB", tensor.blob]


def parse_get_reply(key: str | bytes, reply: Any) -> Tensor:
    """A tensor out of the reply to ``AI.TENSORGET key META BLOB``."""
    name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    if isinstance(reply, Exception):
        raise TensorError(f"{name}: {reply}")
    if not isinstance(reply, list):
        raise TensorError(f"there is no tensor at {name}")
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    return from_blob(fields[b"dtype"].decode(), fields[b"shape"], fields[b"blob"])


def get_tensors(connection: ShardConnection, keys: Sequence[str | bytes]) -> list[Tensor]:
    """The tensors at `keys`, in one round trip."""
    replies = connection.pipeline([("AI.TENSORGET", key, "META", "BLOB") for key in keys])
    return [parse_get_reply(key, reply) for key, reply in zip(keys, replies, strict=True)]


def set_tensors(connection: ShardConnection, tensors: Sequence[tuple[str | bytes, Tensor]]) -> None:
    """Stores all, in one round trip. Raises the first error reply."""
    for reply in connection.pipeline([set_command(key, tensor) for key, tensor in tensors]):
        if isinstance(reply, Exception):
            raise reply
