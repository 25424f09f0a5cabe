"""Records and replies as functions get them (text, or bytes where it is not UTF-8) as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

Record = dict[str, Any]
"""What a reader gives a function: key, value, type, event (of a stream: key, id, value)."""

Item = TypeVar("Item")


def has_text_key(record: Record) -> bool:
    """False for a key that is not UTF-8: no key of ours."""
    return isinstance(record["key"], str)


def text_of(value: str | bytes, what: str) -> str:
    """ValueError if it is not UTF-8; `what` says what it is."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is not UTF-8")
    return value


def bytes_of(value: str | bytes) -> bytes:
    """The bytes that the server sent."""
    return value.encode() if isinstance(value, str) else value


def as_dict(reply: Sequence[Any]) -> dict[Any, Any]:
    """A reply of names and values in turn, as HGETALL's."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def as_list(fields: Mapping[Any, Any]) -> list[Any]:
    """Names and values in turn, as HSET takes them."""
    return [part for pair in fields.items() for part in pair]


def parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """At most `size` at a time."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
