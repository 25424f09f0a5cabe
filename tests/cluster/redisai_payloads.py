"""Payloads as RedisAI's encodings 0 to 4 have them, written from the layout: what DUMP would give there."""

from __future__ import annotations

from collections.abc import Sequence

from tests.cluster.test_restore_corrupt import crc64

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""Of a type's name: each is six bits of its number."""

MODULE_VALUE, UNSIGNED, STRING, END = 7, 2, 5, 0
RDB_VERSION = (9).to_bytes(2, "little")
CODES = {"INT": 0, "UINT": 1, "FLOAT": 2, "BOOL": 6, "STRING": 7}
BACKENDS = ("TF", "TFLITE", "TORCH", "ONNX")


def _length(number: int) -> bytes:
    if number < 64:
        return bytes([number])
    if number < 16384:
        return (0x4000 | number).to_bytes(2, "big")
    if number < 2**32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def number(value: int) -> bytes:
    """An unsigned number."""
    return _length(UNSIGNED) + _length(value)


def text(value: bytes) -> bytes:
    """A string."""
    return _length(STRING) + _length(len(value)) + value


def ended(value: bytes) -> bytes:
    """A string with the NUL that ends it."""
    return text(value + b"\0")


def sealed(type_name: str, encoding: int, body: bytes) -> bytes:
    """A whole payload, with its checksum."""
    id_ = 0
    for character in type_name:
        id_ = id_ << 6 | CHARACTERS.index(character)
    raw = bytes([MODULE_VALUE]) + _length(id_ << 10 | encoding) + body + _length(END) + RDB_VERSION
    return raw + crc64(raw).to_bytes(8, "little")


def tensor(
    encoding: int, code: int, bits: int, dims: Sequence[int], data: bytes, ends: Sequence[int] = ()
) -> bytes:
    """`ends`: where each string begins, of encoding 4."""
    shape = b"".join(number(dim) for dim in dims)
    if encoding == 4:
        body = number(code) + number(bits) + number(len(dims)) + shape + text(data)
        return sealed("AI_TENSOR", 4, body + b"".join(number(at) for at in ends))
    strides, row = [], 1
    for dim in reversed(dims):
        strides.insert(0, row)
        row *= dim
    body = number(1) + number(0) + number(bits) + number(code) + number(1) + number(len(dims)) + shape
    return sealed("AI_TENSOR", encoding, body + b"".join(map(number, strides)) + number(0) + text(data))


def model(
    encoding: int,
    backend: str,
    blob: bytes,
    batch: tuple[int, int, int] = (4, 2, 1000),
    names: tuple[Sequence[bytes], Sequence[bytes]] = ((), ()),
    chunk: int = 1 << 20,
) -> bytes:
    """Older encodings have no time in `batch`."""
    body = number(BACKENDS.index(backend)) + ended(b"CPU")
    body += ended(b"my tag") if encoding == 0 else text(b"my tag")
    body += b"".join(map(number, batch[: 2 if encoding < 2 else 3]))
    for group in names:
        body += number(len(group)) + b"".join(map(ended, group))
    if encoding == 0:
        body += text(blob)
    else:
        chunks = [blob[at : at + chunk] for at in range(0, len(blob), chunk)]
        body += number(len(blob)) + number(len(chunks)) + b"".join(map(text, chunks))
    return sealed("AI__MODEL", encoding, body)


def script(encoding: int, source: bytes, entry_points: Sequence[bytes] = ()) -> bytes:
    """Older encodings have no entry points."""
    body = ended(b"CPU") + (ended(b"a tag") if encoding == 0 else text(b"a tag")) + ended(source)
    if encoding >= 3:
        body += number(len(entry_points)) + b"".join(map(ended, entry_points))
    return sealed("AI_SCRIPT", encoding, body)
