"""Commands as they go over the wire."""

from __future__ import annotations

from collections.abc import Sequence

import hiredis

AS_THEY_ARE = frozenset({str, bytes, int})
"""What hiredis packs as we want it."""


def packed(command: Sequence[object]) -> bytes:
    """Its bytes; redis-py takes several times as long, and some hundred words go over at a time."""
    words = tuple(command)
    if not AS_THEY_ARE.issuperset(map(type, words)) or _is_two_words(words[0]):
        return _with_others(words)
    try:
        return _pack(words)
    except UnicodeEncodeError:  # of bytes that are no UTF-8
        return _with_others(words)


def _is_two_words(name: object) -> bool:
    return b" " in name if isinstance(name, bytes) else isinstance(name, str) and " " in name


def _with_others(command: tuple[object, ...]) -> bytes:
    words = [_argument(word) for word in command]
    return _pack((*words[0].split(), *words[1:]))


def _pack(words: tuple[object, ...]) -> bytes:
    made: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub says one word
    return made


def _argument(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, bool):
        return b"%d" % value
    return str(value).encode()
