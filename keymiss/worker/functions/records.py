"""Keys as gears records: ``{'key', 'value', 'type', 'event'}``; without ``readValue`` ``{'key', 'event'}``.

======== ======================================== =========================
type     value
======== ======================================== =========================
string   str, or bytes if it is not UTF-8
hash     dict
list     list
set      list                                     sorted
zset     list of (member, score)                  by score
stream   None                                     read it with execute()
module   None                                     read it with execute()
empty    None                                     there is no such key
======== ======================================== =========================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import AskError, ResponseError

from keymiss.cluster.shard_connection import ShardConnection

SCAN_COUNT = 500
"""Keys asked for at a time: one batch of values is read while the shard serves others."""

_READ_COMMANDS: dict[str, tuple[str, tuple[object, ...]]] = {
    "string": ("GET", ()),
    "hash": ("HGETALL", ()),
    "list": ("LRANGE", (0, -1)),
    "set": ("SMEMBERS", ()),
    "zset": ("ZRANGE", (0, -1, "WITHSCORES")),
}


def decode(value: Any) -> Any:
    """Replies as functions see them: str where the bytes are UTF-8, bytes where not, lists of those."""
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if type(value) is list:
        return [decode(entry) for entry in value]
    return value


def _type_name(reply: Any) -> str:
    name = decode(reply)
    if name == "none":
        return "empty"
    return name if name in _READ_COMMANDS or name == "stream" else "module"


def _value(kind: str, reply: Any) -> Any:
    value = decode(reply)
    if kind == "hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    if kind == "set":
        return sorted(value, key=str)
    if kind == "zset":
        return [(member, float(score)) for member, score in zip(value[::2], value[1::2], strict=True)]
    return value


def read_records(
    connection: ShardConnection, names: Sequence[bytes], event: str | None, read_value: bool
) -> list[dict[str, Any]]:
    """A record for each key, in two round trips. A key that changes its type between the two has
    value None. One whose slot is elsewhere, or on its way there, is not gone: AskError."""
    if not read_value:
        return [{"key": decode(key), "event": event} for key in names]
    kinds = [_type_name(reply) for reply in _replies(connection, [("TYPE", key) for key in names])]
    wanted = [
        (key, _READ_COMMANDS[kind]) for key, kind in zip(names, kinds, strict=True) if kind in _READ_COMMANDS
    ]
    replies = iter(_replies(connection, [(name, key, *args) for key, (name, args) in wanted]))
    records = []
    for key, kind in zip(names, kinds, strict=True):
        reply = next(replies) if kind in _READ_COMMANDS else None
        gone = reply is None or isinstance(reply, ResponseError)
        value = None if gone else _value(kind, reply)
        records.append({"key": decode(key), "value": value, "type": kind, "event": event})
    return records


def _replies(connection: ShardConnection, commands: Sequence[Sequence[object]]) -> list[Any]:
    replies = connection.pipeline(commands)
    for reply in replies:
        if isinstance(reply, AskError):  # MOVED too
            raise reply
    return replies


def missing_record(key: Any, event: str | None, read_value: bool = True) -> dict[str, Any]:
    """That of a key that is not there."""
    if not read_value:
        return {"key": key, "event": event}
    return {"key": key, "value": None, "type": "empty", "event": event}


def scan(connection: ShardConnection, pattern: Any, count: Any = SCAN_COUNT) -> Iterator[list[bytes]]:
    """Names of the keys that match. As with SCAN itself, a key may come twice if the keyspace grows
    or shrinks meanwhile."""
    cursor = b"0"
    while True:
        cursor, names = connection.command("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        yield list(dict.fromkeys(names))
        if cursor == b"0":
            return


def scan_records(
    connection: ShardConnection, pattern: Any, read_value: bool = True
) -> Iterator[dict[str, Any]]:
    """Records of the keys that match and still exist when they are read."""
    for names in scan(connection, pattern):
        for record in _records_here(connection, names, read_value):
            if record.get("type") != "empty":
                yield record


def _records_here(
    connection: ShardConnection, names: Sequence[bytes], read_value: bool
) -> list[dict[str, Any]]:
    """Without those of keys that have moved since they were found."""
    try:
        return read_records(connection, names, None, read_value)
    except AskError:
        if len(names) == 1:
            return []
        return [record for name in names for record in _records_here(connection, [name], read_value)]


def stream_record(key: bytes, row: Any) -> dict[str, Any]:
    """Of an entry as XRANGE gives it."""
    number, flat = row
    fields = decode(flat or [])  # None: deleted while it was pending
    return {
        "key": decode(key),
        "id": number.decode(),
        "value": dict(zip(fields[::2], fields[1::2], strict=True)),
    }
