"""Commands as they go over the wire."""

from __future__ import annotations

from collections.abc import Sequence

import hiredis


def packed(command: Sequence[object]) -> bytes:
    """Its bytes; redis-py takes several times as long, and some hundred words go over at a time."""
    words = [word if type(word) is bytes else _argument(word) for word in command]
    if b" " in words[0]:
        words[:1] = words[0].split()
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]  # its stub says one word
    return packed


def _argument(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, bool):
        return b"%d" % value
    return str(value).encode()
