"""What goes over the socket pairs: frames of a few fields, as JSON, and tensors, as their bytes."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keymiss.reading.tensors import DTYPES, Tensor, TensorError, from_blob

_SIZES = struct.Struct("<IQ")  # of the JSON, and of the tensors that follow it
MAX_FIELDS_BYTES = 64 << 20  # a tokenizer is the largest thing in them
MAX_TENSORS_BYTES = 1 << 30  # a server takes no value above 512 MB
ALIGNED = 8  # each tensor begins at a multiple: torch and onnxruntime want it so
AT_ONCE_BYTES = 1 << 14  # most frames of runs and results are smaller
COPIED_BYTES = 1 << 16  # a smaller tensor is copied: cheaper than one more buffer for the kernel


RUNS = "runs"
"""The field that says how many runs of a model a frame has (`parted`); without it one."""


class FrameError(Exception):
    """Tensors that are too large, or bytes that are no frame."""


class Frame:
    """`fields` and `tensors`. The arrays are views of the frame's bytes, and writable."""

    def __init__(self, json_bytes: bytes | memoryview, body: memoryview) -> None:
        try:
            fields = json.loads(bytes(json_bytes))
            shapes = fields.pop("tensors")
            self.fields: dict[str, Any] = fields
            self.tensors = list(_tensors(shapes, body))
        except (ValueError, KeyError, TypeError, AttributeError, TensorError) as error:
            raise FrameError(f"not a frame: {error}") from error


def _tensors(shapes: Sequence[Any], body: memoryview) -> Iterator[Tensor]:
    at = 0
    for type_name, dims, size in shapes:
        part = body[at : at + size]
        if type_name == "STRING":
            yield from_blob(type_name, dims, part)
        else:
            yield Tensor(np.frombuffer(part, DTYPES[type_name]).reshape(dims))
        at += size + -size % ALIGNED


def packed(fields: Mapping[str, Any], tensors: Sequence[Tensor] = ()) -> list[memoryview]:
    """The buffers of a frame. FrameError if it is too large."""
    parts = [_bytes_of(tensor) for tensor in tensors]
    shapes = [(one.type_name, one.dims, len(part)) for one, part in zip(tensors, parts, strict=True)]
    json_bytes = json.dumps({**fields, "tensors": shapes}).encode()
    json_bytes += b" " * (-len(json_bytes) % ALIGNED)
    size = sum(len(part) + -len(part) % ALIGNED for part in parts)
    if size > MAX_TENSORS_BYTES:
        raise FrameError(f"tensors of {size} bytes are more than {MAX_TENSORS_BYTES}")
    buffers: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = [_SIZES.pack(len(json_bytes), size), json_bytes]
    for part in parts:
        padding = bytes(-len(part) % ALIGNED)
        if len(part) <= COPIED_BYTES:
            small += [part, padding]
            continue
        buffers += [b"".join(small), part]
        small = [padding]
    return [memoryview(buffer) for buffer in (*buffers, b"".join(small)) if len(buffer)]


def _bytes_of(tensor: Tensor) -> bytes | memoryview:
    if tensor.array.nbytes <= COPIED_BYTES or tensor.type_name == "STRING":
        return tensor.blob
    return np.ascontiguousarray(tensor.array).reshape(-1).view(np.uint8).data


def parted(tensors: list[Tensor], runs: int) -> list[list[Tensor]]:
    """Those of so many runs, which have as many each."""
    many = len(tensors) // runs
    return [tensors[run * many : (run + 1) * many] for run in range(runs)]


def send(to: socket.socket, fields: Mapping[str, Any], tensors: Sequence[Tensor] = (), fd: int = -1) -> None:
    """Waits until it is sent. `fd`: a file that the other side gets, too."""
    first, *rest = packed(fields, tensors)
    if fd >= 0:
        sent = socket.send_fds(to, [first], [fd])
        first = first[sent:]
    for buffer in (first, *rest):
        if buffer:  # to send nothing fails, too, when the other side has read all and ended
            to.sendall(buffer)


class FrameReader:
    """Reads frames from a socket that may block or not. `given`: what was read of the first one's sizes.
    `at_once`: so much is read at a time, which may be several frames."""

    def __init__(self, given: bytes = b"", at_once: int = _SIZES.size) -> None:
        self._ahead, self._at_once = bytearray(given), at_once
        self._frame: bytearray | None = None  # once its sizes are known
        self._filled = self._json_bytes = 0

    def read(self, source: socket.socket) -> Frame | None:
        """None if there is no whole one yet. EOFError when the other side is gone."""
        while (frame := self.next()) is None:
            try:
                if self._frame is None:
                    got = len(more := source.recv(self._at_once - len(self._ahead)))
                    self._ahead += more
                else:
                    got = source.recv_into(memoryview(self._frame)[self._filled :])
                    self._filled += got
            except BlockingIOError:
                return None
            if got == 0:
                raise EOFError
        return frame

    def next(self) -> Frame | None:
        """One that was read along with the last."""
        if self._frame is None and len(self._ahead) >= _SIZES.size:
            self._json_bytes, size = _SIZES.unpack_from(self._ahead)
            if self._json_bytes > MAX_FIELDS_BYTES or size > MAX_TENSORS_BYTES:
                raise FrameError(f"a frame of {self._json_bytes} and {size} bytes")
            self._frame = bytearray(self._json_bytes + size)
            part = self._ahead[_SIZES.size :][: len(self._frame)]
            self._filled = len(part)
            self._frame[: self._filled] = part
            del self._ahead[: _SIZES.size + self._filled]
        if self._frame is None or self._filled < len(self._frame):
            return None
        whole, self._frame = memoryview(self._frame), None
        return Frame(whole[: self._json_bytes], whole[self._json_bytes :])


def receive(source: socket.socket) -> Frame:
    """Waits for a frame. EOFError when the other side is gone, OSError (TimeoutError) of the socket."""
    frame = FrameReader().read(source)
    if frame is None:
        raise TimeoutError
    return frame


def receive_with_file(source: socket.socket) -> tuple[Frame, int]:
    """The same, of one that may have a file: its number, or -1."""
    head, files, _, _ = socket.recv_fds(source, _SIZES.size, 1)
    if not head:
        raise EOFError
    frame = FrameReader(head).read(source)
    if frame is None:
        raise TimeoutError
    return frame, files[0] if files else -1
