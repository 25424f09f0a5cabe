"""Encodes Python values as raw RESP2, as ``KM.DONE`` wants one.

============================ =========================================================
Python                       RESP2
============================ =========================================================
None                         null bulk string ``$-1``
bool, int in 64 bits         integer (True is 1)
str, bytes, bytearray        bulk string (str as UTF-8)
float, int beyond 64 bits    bulk string of its repr, as Redis itself replies numbers
`Double`                     double ``,0.1``: the server writes it as it does its own
list, tuple, set, frozenset  array
dict                         array of key, value, key, value, ...
`Status`, `Error`            status reply, error reply (line breaks and NULs become spaces)
an exception                 error reply ``-ERR TypeName: text``
anything else                bulk string of its str()
============================ =========================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_ERROR_REPLY = re.compile(r"-[A-Z][A-Z0-9]{2,}( .*)?", re.DOTALL)
_STATUS_REPLY = re.compile(r"\+[A-Z]+")


@dataclass(frozen=True)
class Status:
    """A status reply such as ``+OK``, without the plus."""

    text: str


@dataclass(frozen=True)
class Error:
    """An error reply, without the minus; its first word is the code (``ERR ...``)."""

    text: str


@dataclass(frozen=True)
class Double:
    """A double reply."""

    value: float


class Nothing:
    """The function has put nothing in the place of a reply."""


NOTHING = Nothing()


def _line(text: str) -> bytes:
    return " ".join(text.replace("\0", " ").splitlines()).encode("utf-8", "surrogateescape")


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


def encode(value: object) -> bytes:
    """One complete RESP2 value. Raises RecursionError for a container that contains itself."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int) and _INT64_MIN <= value <= _INT64_MAX:
        return b":%d\r\n" % value
    if isinstance(value, str):
        return _bulk(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bulk(bytes(value))
    if isinstance(value, (int, float)):
        return _bulk(repr(value).encode())
    if isinstance(value, Double):
        return b",%r\r\n" % value.value
    if isinstance(value, dict):
        flat = [part for pair in value.items() for part in pair]
        return b"*%d\r\n" % len(flat) + b"".join(map(encode, flat))
    if isinstance(value, (list, tuple, set, frozenset)):
        return b"*%d\r\n" % len(value) + b"".join(map(encode, value))
    if isinstance(value, Nothing):
        return b"*-1\r\n"
    if isinstance(value, Status):
        return b"+" + _line(value.text) + b"\r\n"
    if isinstance(value, Error):
        return b"-" + _line(value.text) + b"\r\n"
    if isinstance(value, BaseException):
        return encode(Error(f"ERR {type(value).__name__}: {value}"))
    return encode(str(value))


def from_override(value: object) -> object:
    """What ``override_reply(value)`` means: a str ``-CODE text`` is an error and ``+WORD`` a status,
    as in RedisGears; all else is the value itself.

    RedisGears takes any leading minus or plus. Here the first word must look like a reply code
    (capitals, at least three for an error), so that the answer "-80 degrees" stays an answer; bytes
    are never looked into.
    """
    if isinstance(value, str):
        if _ERROR_REPLY.fullmatch(value):
            return Error(value[1:])
        if _STATUS_REPLY.fullmatch(value):
            return Status(value[1:])
    return value


def of_function(value: object) -> object:
    """What a CommandReader's function gives: as `from_override`, also in lists."""
    if isinstance(value, (list, tuple)):
        return [of_function(one) for one in value]
    return from_override(value)
