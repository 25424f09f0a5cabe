"""Finding the masters of the cluster, for threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from redis.exceptions import RedisError, ResponseError

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials, refusal
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import Shard, shards_of_reply

DISCOVERY_TIMEOUT_S = 2.0


class NoNodeError(Exception):
    """Not one of the known nodes answered."""


class RefusedError(NoNodeError):
    """Nodes answered, but refuse this process's user or password."""


class Discovery:
    """The masters of the cluster as some reachable node tells them.

    Seeds and every address ever learnt are asked in turn, the last good one first, so that the
    cluster is found even when all the seeds but one are gone.
    """

    def __init__(self, seeds: Iterable[Address], credentials: Credentials) -> None:
        self._credentials = credentials
        self._known = list(dict.fromkeys(seeds))
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
        found: dict[Address, Shard] = {}
        refused = ""
        for address in list(self._known):
            try:
                shards, in_cluster = self._ask(address)
            except (RedisError, OSError, ValueError) as error:
                errors.append(f"{address}: {error}")
                refused = refused or refusal(error, self._credentials)
                continue
            found = {shard.master: shard for shard in shards} | found
            if in_cluster and shards:
                learnt = (shard.master for shard in shards)
                self._known = list(dict.fromkeys([address, *learnt, *self._known]))
                break
        if not found and refused:
            raise RefusedError(refused)
        if not found and len(errors) == len(self._known):
            raise NoNodeError("; ".join(errors))
        masters = sorted(found.values(), key=lambda shard: (shard.slots, shard.master))
        with self._lock:
            self._shards = masters
        return list(masters)

    def _ask(self, address: Address) -> tuple[tuple[Shard, ...], bool]:
        """What one node says, and whether it is in a cluster; a replica outside of one is no shard."""
        connection = ShardConnection(address, DISCOVERY_TIMEOUT_S, self._credentials)
        try:
            (reply,) = connection.pipeline([("CLUSTER", "SLOTS")])
            shards = shards_of_reply(reply, address)
            in_cluster = not isinstance(reply, ResponseError)
            if not in_cluster and connection.command("ROLE")[0] != b"master":
                return (), False
            return shards, in_cluster
        finally:
            connection.close()
