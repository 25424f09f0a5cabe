"""Connections to shards, for threads.

A connection belongs to one thread at a time and is never shared. Replies are raw: bytes, ints,
lists, None; an error reply is raised as `redis.exceptions.ResponseError`, a broken or silent
connection as `redis.exceptions.ConnectionError` / `TimeoutError`.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.connection import Connection, SSLConnection
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.packing import packed
from keymiss.cluster.tls import Tls, explained
from keymiss.cluster.topology import Shard

CONNECT_TIMEOUT_S = 3.0

REDIS_PY = DriverInfo()
"""Sent when a connection is made, which shows at once whether there is a server that takes it. Each
connection would look for the version of its own in files, for ten milliseconds."""

_PLAIN = (bytes, int, type(None))

IDLE_S = 0.1
"""After so long it is looked whether the server has closed the connection meanwhile."""


class TlsConnection(SSLConnection):
    """With one context for all connections, and a limit for the handshake."""

    def __init__(self, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(self.socket_connect_timeout)
        made = self._tls.context.wrap_socket(sock, server_hostname=self.host)
        made.settimeout(self.socket_timeout)
        return made


class ShardConnection:
    """One RESP2 connection, opened on first use and again after a break. `tells`: a break while it was idle
    is an error of the next command, too, for whoever has something to do then."""

    def __init__(
        self,
        address: Address,
        timeout_s: float,
        credentials: Credentials,
        greeting: tuple[object, ...] | None = None,
        *,
        tells: bool = False,
    ) -> None:
        self.address = str(address)
        self._host_and_port, self._credentials = address, credentials
        self._tells = tells
        self._greeting = greeting
        self._greeted: object = None
        self._timeout_s = timeout_s
        self._used_s = 0.0
        self._posted: list[tuple[Sequence[object], Callable[[Exception], None]]] = []
        make: Any = (
            partial(TlsConnection, credentials.tls) if credentials.tls else Connection
        )  # not annotated
        self._connection: Any = make(
            host=address.host,
            port=address.port,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=min(CONNECT_TIMEOUT_S, timeout_s),
            socket_keepalive=True,
            driver_info=REDIS_PY,
            **credentials.login,
        )

    def another(self) -> ShardConnection:
        """To the same server, for another thread."""
        return ShardConnection(self._host_and_port, self._timeout_s, self._credentials)

    def command(self, *args: object, timeout_s: float | None = None) -> Any:
        """Sends one command and returns its reply, waiting at most `timeout_s` (or the default)."""
        reply = self.pipeline([args], timeout_s)[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Sequence[object]], timeout_s: float | None = None) -> list[Any]:
        """Sends all commands at once; error replies are returned in their place, not raised."""
        posted, self._posted = self._posted, []
        try:
            replies = self._exchange([*(command for command, _ in posted), *commands], timeout_s)
        except (RedisError, OSError) as error:
            for _, refused in posted:
                refused(error)
            raise
        for (_, refused), reply in zip(posted, replies, strict=False):
            if isinstance(reply, Exception):
                refused(reply)
        return replies[len(posted) :]

    def post(self, command: Sequence[object], refused: Callable[[Exception], None]) -> None:
        """Sends it with the next command, before that; or with `send_posted`. `refused` is told if the shard
        does not take it."""
        self._posted.append((command, refused))

    def send_posted(self) -> None:
        """Sends what was posted and not sent yet."""
        with suppress(RedisError, OSError):  # whoever posted it is told
            self.pipeline([])

    def _exchange(self, commands: Sequence[Sequence[object]], timeout_s: float | None) -> list[Any]:
        if not commands:
            return []
        self._ready()
        connection = self._connection
        try:
            connection.send_packed_command([b"".join(map(packed, commands))])
            replies = [self._read(timeout_s) for _ in commands]
        except BaseException as error:
            connection.disconnect()  # an unread reply must never be taken for the next command's
            if isinstance(error.__context__, BlockingIOError):
                raise TimeoutError(f"{self.address} did not answer within {self._timeout_s:g} s") from None
            raise
        self._used_s = time.monotonic()
        return replies

    def _read(self, timeout_s: float | None) -> Any:
        reply = self._connection._parser._reader.gets(False)  # most came together with the one before
        if type(reply) in _PLAIN:
            return reply
        if reply is not NOT_ENOUGH_DATA:
            return _checked(reply)
        limit = {} if timeout_s is None else {"timeout": timeout_s}
        try:
            return self._connection.read_response(disable_decoding=True, **limit)
        except ResponseError as error:
            return error

    def _ready(self) -> None:
        """Connects, or notices that the server closed an idle connection and connects again."""
        connection = self._connection
        if not connection.is_connected:
            self._connect()
        elif time.monotonic() - self._used_s > IDLE_S and self._is_stale():
            connection.disconnect()
            if self._tells:
                raise ConnectionError(f"{self.address} closed the connection")
            self._connect()
        if not self._credentials.tls and connection._sock.gettimeout() is not None:
            _limit_in_kernel(connection._sock, self._timeout_s)
        if self._greeting is not None and self._greeted is not connection._sock:
            connection.send_command(*self._greeting)
            connection.read_response(disable_decoding=True)
            self._greeted = connection._sock

    def _connect(self) -> None:
        with explained(self._host_and_port, self._credentials.tls):
            self._connection.connect()

    def _is_stale(self) -> bool:
        try:
            return bool(self._connection.can_read(timeout=0))
        except (ConnectionError, TimeoutError, OSError):
            return True

    def close(self) -> None:
        """Closes the connection; a later command opens it again."""
        self._connection.disconnect()


def _limit_in_kernel(connected: socket.socket, limit_s: float) -> None:
    """Python's own limit costs a poll() before each call, and at each the interpreter's lock goes to another
    thread. What takes too long is a BlockingIOError then. Not with TLS: Python's module would read on."""
    connected.settimeout(None)
    limit = struct.pack("ll", int(limit_s), int(limit_s % 1 * 1_000_000) or 1)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connected.setsockopt(socket.SOL_SOCKET, option, limit)


def _checked(reply: Any) -> Any:
    """A list, or an error: one that says that the connection is of no use is raised."""
    first = reply[0] if isinstance(reply, list) and reply else reply
    if isinstance(first, ConnectionError) or (
        isinstance(reply, Exception) and not isinstance(reply, ResponseError)
    ):
        raise first
    return reply


class ThreadConnections:
    """For every thread one connection per shard. `greeting`: what is sent first on each, and again after a
    break; a shard that refuses it is an error."""

    def __init__(
        self, timeout_s: float, credentials: Credentials, greeting: tuple[object, ...] | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._greeting = greeting
        self._local = threading.local()

    def get(self, shard: Shard) -> ShardConnection:
        """The calling thread's connection to `shard`."""
        mine: dict[Address, ShardConnection] = self._local.__dict__.setdefault("connections", {})
        connection = mine.get(shard.master)
        if connection is None:
            connection = ShardConnection(shard.master, self._timeout_s, self._credentials, self._greeting)
            mine[shard.master] = connection
        return connection

    def send_posted(self) -> None:
        """On the calling thread's connections."""
        for connection in self._local.__dict__.get("connections", {}).values():
            connection.send_posted()

    def close_mine(self) -> None:
        """Closes what the calling thread has open; for threads that end before the process."""
        self.send_posted()
        for connection in self._local.__dict__.pop("connections", {}).values():
            connection.close()
