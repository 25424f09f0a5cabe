"""Connections to shards, for threads.

A connection belongs to one thread at a time and is never shared. Replies are raw: bytes, ints,
lists, None; an error reply is raised as `redis.exceptions.ResponseError`, a broken or silent
connection as `redis.exceptions.ConnectionError` / `TimeoutError`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from redis.connection import Connection
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.topology import Shard

CONNECT_TIMEOUT_S = 3.0


class ShardConnection:
    """One RESP2 connection, opened on first use and again after a break."""

    def __init__(self, address: Address, timeout_s: float, credentials: Credentials) -> None:
        self.address = str(address)
        self._timeout_s = timeout_s
        make: Any = Connection  # redis-py does not annotate it
        self._connection: Any = make(
            host=address.host,
            port=address.port,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=min(CONNECT_TIMEOUT_S, timeout_s),
            socket_keepalive=True,
            **credentials.login,
        )

    def command(self, *args: object, timeout_s: float | None = None) -> Any:
        """Sends one command and returns its reply, waiting at most `timeout_s` (or the default)."""
        reply = self.pipeline([args], timeout_s)[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Sequence[object]], timeout_s: float | None = None) -> list[Any]:
        """Sends all commands at once; error replies are returned in their place, not raised."""
        if not commands:
            return []
        self._ready()
        connection = self._connection
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            packed = connection.pack_commands([[_argument(arg) for arg in command] for command in commands])
            connection.send_packed_command(packed)
            return [self._read(limit_s) for _ in commands]
        except BaseException:
            connection.disconnect()  # an unread reply must never be taken for the next command's
            raise

    def _read(self, timeout_s: float) -> Any:
        try:
            return self._connection.read_response(disable_decoding=True, timeout=timeout_s)
        except ResponseError as error:
            return error

    def _ready(self) -> None:
        """Connects, or notices that the server closed an idle connection and connects again."""
        connection = self._connection
        connection.connect()
        try:
            stale = connection.can_read(timeout=0)
        except (ConnectionError, TimeoutError, OSError):
            stale = True
        if stale:
            connection.disconnect()
            connection.connect()

    def close(self) -> None:
        """Closes the connection; a later command opens it again."""
        self._connection.disconnect()


def _argument(value: object) -> bytes | str | int:
    if type(value) is bytes:  # most are one of these two: some hundred a round trip
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, bool):
        return int(value)
    return str(value)


class ThreadConnections:
    """For every thread one connection per shard."""

    def __init__(self, timeout_s: float, credentials: Credentials) -> None:
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._local = threading.local()

    def get(self, shard: Shard) -> ShardConnection:
        """The calling thread's connection to `shard`."""
        mine: dict[Address, ShardConnection] = self._local.__dict__.setdefault("connections", {})
        connection = mine.get(shard.master)
        if connection is None:
            connection = ShardConnection(shard.master, self._timeout_s, self._credentials)
            mine[shard.master] = connection
        return connection

    def close_mine(self) -> None:
        """Closes what the calling thread has open; for threads that end before the process."""
        for connection in self._local.__dict__.pop("connections", {}).values():
            connection.close()
