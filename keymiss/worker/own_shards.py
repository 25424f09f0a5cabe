"""Which masters a worker serves that is told `--local`: its own host's, and others that have no worker.

So models and inputs do not cross the network. A master whose host's workers are all gone is served from
elsewhere until one of them is back. A worker says at a shard whether it stands in there (KM.PULL's AWAY), so
that two that do so do not take each other for the one that is waited for.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import RedisError

from keymiss.cluster.credentials import Credentials
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import Shard

ALONE_S = 2.0
"""A master is without a worker for so long before another host's steps in."""

LOOK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Workers:
    """Those that are attached to a master; `away`: how many of them stand in."""

    attached: int
    away: int


class OwnShards:
    """Asked once a second, from one thread. `look`: the workers of some masters, by the shard's identity, but
    of those that do not say. `here`: whether a host's name or address is this host's. `now`: a clock, in
    seconds."""

    def __init__(
        self,
        look: Callable[[Sequence[Shard]], Mapping[str, Workers]],
        here: Callable[[str], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._here, self._now = look, here, now
        self._away: set[str] = set()
        self._alone_since_s: dict[str, float] = {}

    def of(self, shards: Iterable[Shard]) -> list[tuple[Shard, bool]]:
        """Those to serve now, each with whether that is standing in."""
        own: list[tuple[Shard, bool]] = []
        others: list[Shard] = []
        for shard in shards:
            if self._here(shard.master.host):
                own.append((shard, False))
            else:
                others.append(shard)
        names = {shard.identity for shard in others}
        self._away &= names
        self._alone_since_s = {name: since for name, since in self._alone_since_s.items() if name in names}
        found = self._look(others)
        return own + [(shard, True) for shard in others if self._stands_in(shard, found.get(shard.identity))]

    def _stands_in(self, shard: Shard, workers: Workers | None) -> bool:
        name, now_s = shard.identity, self._now()
        if workers is None:
            return name in self._away
        if workers.attached:
            self._alone_since_s.pop(name, None)
        if workers.attached > workers.away:
            self._away.discard(name)
        elif not workers.attached and now_s - self._alone_since_s.setdefault(name, now_s) >= ALONE_S:
            self._away.add(name)
        return name in self._away


class LookAtShards:
    """`OwnShards.look`, over a connection to each master."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._connections: dict[str, ShardConnection] = {}

    def __call__(self, shards: Sequence[Shard]) -> dict[str, Workers]:
        """From INFO keymiss."""
        for gone in self._connections.keys() - {shard.identity for shard in shards}:
            self._connections.pop(gone).close()
        found: dict[str, Workers] = {}
        for shard in shards:
            with suppress(RedisError, OSError, KeyError):  # KeyError: a server without the module
                found[shard.identity] = self._workers_of(shard)
        return found

    def _workers_of(self, shard: Shard) -> Workers:
        connection = self._connections.get(shard.identity)
        if connection is None:
            connection = ShardConnection(shard.master, LOOK_TIMEOUT_S, self._credentials)
            self._connections[shard.identity] = connection
        lines = connection.command("INFO", "keymiss").decode().splitlines()
        figures = dict(line.split(":", 1) for line in lines if ":" in line)
        return Workers(int(figures["keymiss_workers"]), int(figures["keymiss_workers_away"]))


def is_here(host: str) -> bool:
    """Whether it is an address of this host: one that a socket can be bound to."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind(address)
    except OSError:
        return False
    return True
