"""Finding the masters of the cluster, and connections to them.

A connection belongs to one thread at a time and is never shared. Replies are raw: bytes, ints,
lists, None; an error reply is raised as `redis.exceptions.ResponseError`, a broken or silent
connection as `redis.exceptions.ConnectionError` / `TimeoutError`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.connection import Connection
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from keymiss import keys
from keymiss.cluster.credentials import Credentials, refusal

STANDALONE_NODE_ID = "1"
"""What RedisGears 1.2 reports as shard id without a cluster (readers.md, ShardsIDReader)."""

CONNECT_TIMEOUT_S = 3.0
DISCOVERY_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Shard:
    """A master. `ranges` are its slots, inclusive; one full range for a server without cluster."""

    host: str
    port: int
    node_id: str
    ranges: tuple[tuple[int, int], ...] = ((0, keys.SLOTS - 1),)

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def identity(self) -> str:
        """Names the shard while it lives: slots may move, this stays."""
        return f"{self.node_id}@{self.address}"

    @property
    def hashtag(self) -> str:
        """The tag of the lowest slot that the shard serves."""
        return keys.tag_for_slot(min(first for first, _ in self.ranges))

    def serves(self, slot: int) -> bool:
        """True when `slot` is one of the shard's."""
        return any(first <= slot <= last for first, last in self.ranges)


class NoNodeError(Exception):
    """Not one of the known nodes answered."""


class RefusedError(NoNodeError):
    """Nodes answered, but refuse this worker's user or password."""


class ShardConnection:
    """One RESP2 connection, opened on first use and again after a break."""

    def __init__(self, host: str, port: int, timeout_s: float, credentials: Credentials) -> None:
        self.address = f"{host}:{port}"
        self._timeout_s = timeout_s
        make: Any = Connection  # redis-py does not annotate it
        self._connection: Any = make(
            host=host,
            port=port,
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
    if isinstance(value, (bytes, str)):
        return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytearray, memoryview)):
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
        mine: dict[str, ShardConnection] = self._local.__dict__.setdefault("connections", {})
        connection = mine.get(shard.address)
        if connection is None:
            connection = ShardConnection(shard.host, shard.port, self._timeout_s, self._credentials)
            mine[shard.address] = connection
        return connection

    def close_mine(self) -> None:
        """Closes what the calling thread has open; for threads that end before the process."""
        for connection in self._local.__dict__.pop("connections", {}).values():
            connection.close()


class Topology:
    """The masters of the cluster as some reachable node tells them.

    Seeds and every address ever learnt are asked in turn, the last good one first, so that the
    cluster is found even when all the seeds but one are gone.
    """

    def __init__(self, seeds: Iterable[tuple[str, int]], credentials: Credentials) -> None:
        self._credentials = credentials
        self._seeds = list(dict.fromkeys(seeds))
        self._known: list[tuple[str, int]] = list(self._seeds)
        self._lock = threading.Lock()
        self._shards: list[Shard] = []

    def masters(self) -> list[Shard]:
        """What the last successful `refresh` found, ordered by lowest slot."""
        with self._lock:
            return list(self._shards)

    def refresh(self) -> list[Shard]:
        """Asks again. NoNodeError when nobody answers, RefusedError when who answers wants another user
        or password; an empty list when the cluster has no slots yet."""
        errors: list[str] = []
        found: list[Shard] = []
        refused = ""
        for host, port in list(self._known):
            try:
                shards, in_cluster = self._ask(host, port)
            except (RedisError, OSError) as error:
                errors.append(f"{host}:{port}: {error}")
                refused = refused or refusal(error, self._credentials)
                continue
            found.extend(shard for shard in shards if shard.address not in {f.address for f in found})
            if in_cluster and shards:
                self._remember((host, port), shards)
                break
        if not found and refused:
            raise RefusedError(refused)
        if not found and len(errors) == len(self._known):
            raise NoNodeError("; ".join(errors))
        found.sort(key=lambda shard: (min(first for first, _ in shard.ranges), shard.address))
        with self._lock:
            self._shards = found
        return list(found)

    def _remember(self, good: tuple[str, int], shards: list[Shard]) -> None:
        learnt = [(shard.host, shard.port) for shard in shards]
        self._known = list(dict.fromkeys([good, *learnt, *self._known]))

    def _ask(self, host: str, port: int) -> tuple[list[Shard], bool]:
        connection = ShardConnection(host, port, DISCOVERY_TIMEOUT_S, self._credentials)
        try:
            return parse_cluster_slots(connection.command("CLUSTER", "SLOTS"), host), True
        except ResponseError as error:
            if "cluster support disabled" not in str(error):
                raise
            role = connection.command("ROLE")[0]
            return ([Shard(host, port, STANDALONE_NODE_ID)] if role == b"master" else []), False
        finally:
            connection.close()


def parse_cluster_slots(reply: Any, asked_host: str) -> list[Shard]:
    """Masters out of a CLUSTER SLOTS reply; a node that does not know its own address is at the
    host that was asked."""
    ranges: dict[tuple[str, int, str], list[tuple[int, int]]] = {}
    for first, last, master, *_replicas in reply:
        host = (master[0] or b"").decode() or asked_host
        ranges.setdefault((host, int(master[1]), master[2].decode()), []).append((int(first), int(last)))
    return [Shard(host, port, node_id, tuple(sorted(r))) for (host, port, node_id), r in ranges.items()]
