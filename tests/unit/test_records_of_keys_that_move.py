"""A key whose slot is elsewhere is not gone: no function is told so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from redis.exceptions import AskError, MovedError, ResponseError

from keymiss.cluster.shard_connection import ShardConnection
from keymiss.worker.functions.records import read_records, scan_records


class Shard:
    """`gone_at`: the command at which a key has moved."""

    def __init__(self, gone_at: dict[bytes, str], error: ResponseError) -> None:
        self._gone_at, self._error = gone_at, error

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return [self._reply(*command) for command in commands]

    def command(self, *command: Any) -> Any:
        assert command[0] == "SCAN"
        return [b"0", [b"a", b"b", b"c"]]

    def _reply(self, name: str, key: bytes) -> Any:
        if self._gone_at.get(key) in (name, "TYPE"):
            return self._error
        return b"string" if name == "TYPE" else b"value of " + key


def shard(gone_at: dict[bytes, str], error: ResponseError) -> ShardConnection:
    return cast(ShardConnection, Shard(gone_at, error))


@pytest.mark.parametrize("at", ["TYPE", "GET"])
@pytest.mark.parametrize("error", [AskError("7 127.0.0.1:1"), MovedError("7 127.0.0.1:1")])
def test_of_an_event_it_is_an_error(at: str, error: ResponseError) -> None:
    with pytest.raises(AskError):
        read_records(shard({b"a": at}, error), [b"a"], "set", True)


def test_another_error_is_that_of_a_key_that_changed() -> None:
    (record,) = read_records(shard({b"a": "GET"}, ResponseError("WRONGTYPE")), [b"a"], "set", True)
    assert (record["type"], record["value"]) == ("string", None)


@pytest.mark.parametrize("at", ["TYPE", "GET"])
def test_of_a_scan_it_is_left_out(at: str) -> None:
    found = scan_records(shard({b"b": at}, MovedError("7 127.0.0.1:1")), "*")
    assert [(each["key"], each["value"]) for each in found] == [("a", "value of a"), ("c", "value of c")]
