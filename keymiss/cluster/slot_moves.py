"""Slots evened out between masters: which go where, and each moved with its keys, as `redis-cli --cluster`
does it. Clients are served meanwhile (ASK, MOVED).

A move that was interrupted is there to be seen in CLUSTER NODES; `SlotMover.finish` ends it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import ResponseError

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import ClusterView, KnownNode, Slots, count_slots, view_of_reply

KEYS_AT_ONCE = 10
"""As redis-cli: neither master serves anybody while they are on their way."""
MIGRATE_TIMEOUT_S = 60
LOOK_AGAIN_S = 0.02
STAYS_S = 30.0
"""Answers do not move: the module removes them soon after (module/derive.c)."""
OPEN = re.compile(r"\[(?P<slot>\d+)-(?P<way>[<>])-(?P<other>\w+)\]")


@dataclass(frozen=True, slots=True)
class Move:
    """One slot; masters by their id."""

    slot: int
    source: str
    to: str


def even_moves(slots: Mapping[str, Slots], staying: Sequence[str]) -> list[Move]:
    """What makes all `staying` masters have the same number of slots, give or take one, and the others none.

    Of each master the highest go: the lowest one gives a shard its tag. Slots that follow one another go to
    the same master: each range costs every client that asks for CLUSTER SLOTS.
    """
    share, rest = divmod(sum(map(count_slots, slots.values())), len(staying))
    most_first = sorted(staying, key=lambda id_: -count_slots(slots[id_]))
    wanted = {id_: share + (i < rest) for i, id_ in enumerate(most_first)}
    lacking = [id_ for id_ in staying for _ in range(wanted[id_] - count_slots(slots[id_]))]
    spare = [
        (slot, id_)
        for id_, own in slots.items()
        for slot in [slot for low, high in own for slot in range(low, high + 1)][wanted.get(id_, 0) :]
    ]
    return [Move(slot, source, to) for (slot, source), to in zip(spare, lacking, strict=True)]


class SlotMover:
    """Moves slots of the cluster that `node` belongs to, as this user."""

    def __init__(self, node: Address, credentials: Credentials) -> None:
        self._node = node
        self._credentials = credentials
        self._connections: dict[Address, ShardConnection] = {}
        self.view = self._look()

    def _master(self, id_: str) -> ShardConnection:
        return self._at(self.view.nodes[id_].address)

    def _at(self, node: Address) -> ShardConnection:
        if node not in self._connections:
            made = ShardConnection(node, MIGRATE_TIMEOUT_S + 5, self._credentials)
            self._connections[node] = made
        return self._connections[node]

    def _look(self) -> ClusterView:
        return view_of_reply(self._at(self._node).command("CLUSTER", "NODES"), self._node)

    @property
    def masters(self) -> dict[str, KnownNode]:
        """Those that answer, by id."""
        return {n.id: n for n in self.view.nodes.values() if n.master is None and not n.failing}

    def finish(self) -> int:
        """Ends moves that were interrupted; returns how many there were."""
        found = {}
        for node in self.masters.values():
            for slot, way, other in self._open_on(node):
                found[slot] = (other if way == "<" else node.id, node.id if way == "<" else other)
        owner = {id_: node.slots for id_, node in self.masters.items()}
        for slot, (source, to) in found.items():
            if any(low <= slot <= high for low, high in owner.get(source, ())) and to in owner:
                self.move(Move(slot, source, to))
            else:  # it has arrived, or nobody knows where to
                for id_ in {source, to} & owner.keys():
                    self._master(id_).command("CLUSTER", "SETSLOT", slot, "STABLE")
        self.view = self._look()
        return len(found)

    def _open_on(self, node: KnownNode) -> Iterable[tuple[int, str, str]]:
        reply = self._at(node.address).command("CLUSTER", "NODES").decode()
        own = next(line for line in reply.splitlines() if "myself" in line.split()[2])
        return [(int(found["slot"]), found["way"], found["other"]) for found in OPEN.finditer(own)]

    def move(self, move: Move) -> int:
        """How many keys went along. Raises RedisError, and says which slot."""
        source, to = self._master(move.source), self._master(move.to)
        to.command("CLUSTER", "SETSLOT", move.slot, "IMPORTING", move.source)
        source.command("CLUSTER", "SETSLOT", move.slot, "MIGRATING", move.to)
        moved, before, since_s = 0, list[bytes](), time.monotonic()
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", move.slot, KEYS_AT_ONCE):
            if keys != before:
                moved, before, since_s = moved + len(keys), keys, time.monotonic()
            elif time.monotonic() - since_s > STAYS_S:
                raise ResponseError(f"slot {move.slot} keeps {len(keys)} keys that do not move")
            else:
                time.sleep(LOOK_AGAIN_S)
            self._migrate(source, self.view.nodes[move.to].address, keys)
        # First who gets it: after that no failover gives it back. The others hear of it anyway; who gave its
        # last slot away may be a replica by now, and refuses.
        to.command("CLUSTER", "SETSLOT", move.slot, "NODE", move.to)
        for id_ in [move.source, *(id_ for id_ in self.masters if id_ not in (move.to, move.source))]:
            with suppress(ResponseError):
                self._master(id_).command("CLUSTER", "SETSLOT", move.slot, "NODE", move.to)
        return moved

    def _migrate(self, source: ShardConnection, to: Address, keys: Sequence[bytes]) -> None:
        """What is at the source is what is served: a copy of an interrupted move is replaced."""
        login: tuple[object, ...] = ()
        if self._credentials.password:
            login = ("AUTH2", self._credentials.user, self._credentials.password)
        timeout_ms = MIGRATE_TIMEOUT_S * 1000
        source.command("MIGRATE", *to, "", 0, timeout_ms, "REPLACE", *login, "KEYS", *keys)

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._connections.values():
            connection.close()
