"""Which node has which slots: what servers reply, as values. Nothing here talks to a server.

CLUSTER SLOTS says where commands go: each master that serves slots is a `Shard`. CLUSTER NODES says which
nodes there are, replicas and failing ones too, as one of them knows it: a `ClusterView`. In both, a server
that is not in cluster mode is one shard with every slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from keymiss.addresses import Address
from keymiss.keys import SLOTS, part_tags, slot_of, tag_for_slot

Slots = tuple[tuple[int, int], ...]
"""Ranges, both ends included, lowest first."""

EVERY_SLOT: Slots = ((0, SLOTS - 1),)
MASTER, REPLICA = "master", "replica"
NOT_OF_THE_CLUSTER = {"handshake", "noaddr"}  # not yet, or not to be found: there is no address to ask
STANDALONE_NODE_ID = "1"
"""What RedisGears 1.2 reports as shard id without a cluster (readers.md, ShardsIDReader)."""


class NoShard(RedisConnectionError):
    """No master is known for a slot: the cluster is changing, or a part of it is down."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A master that serves slots; `tag`, that of the lowest one, is the shard's name."""

    master: Address
    node_id: str
    slots: Slots = EVERY_SLOT

    @property
    def tag(self) -> str:
        """The hash tag (without braces) of the lowest slot."""
        return tag_for_slot(self.slots[0][0])

    @property
    def parts(self) -> tuple[str, ...]:
        """The tags of the parts (`keymiss.keys`) whose keys are here."""
        return parts_in(self.slots)

    @property
    def address(self) -> str:
        """The master's ``host:port``."""
        return str(self.master)

    @property
    def identity(self) -> str:
        """Names the server while it lives: slots may move, this stays."""
        return f"{self.node_id}@{self.master}"

    def owns(self, slot: int) -> bool:
        """Whether the shard serves that slot."""
        return is_in(self.slots, slot)


def is_in(slots: Slots, slot: int) -> bool:
    """Whether a slot is in one of the ranges."""
    return any(low <= slot <= high for low, high in slots)


@lru_cache(1024)  # asked for several times in each question
def parts_in(slots: Slots) -> tuple[str, ...]:
    """The tags of the parts whose keys lie in these slots."""
    return tuple(tag for tag in part_tags() if is_in(slots, slot_of(tag)))


def shard_at(shards: Iterable[Shard], slot: int) -> Shard:
    """The shard that serves a slot. Raises NoShard."""
    for shard in shards:
        if shard.owns(slot):
            return shard
    raise NoShard(f"no shard serves slot {slot}")


def shard_of(shards: Iterable[Shard], key: str | bytes) -> Shard:
    """The shard that owns a key. Raises NoShard."""
    return shard_at(shards, slot_of(key))


def count_slots(slots: Slots) -> int:
    """How many slots the ranges have."""
    return sum(high - low + 1 for low, high in slots)


def shards_of_reply(reply: Any, asked: Address) -> tuple[Shard, ...]:
    """What a server replied to CLUSTER SLOTS, an error too; empty while a cluster has no slots.

    Raises another ResponseError that is the reply, and ValueError for what is no reply of CLUSTER SLOTS.
    """
    if is_no_cluster(reply):
        return (Shard(asked, STANDALONE_NODE_ID),)
    return parse_cluster_slots(reply, asked)


def is_no_cluster(reply: Any) -> bool:
    """Whether a CLUSTER command was refused because there is no cluster. Raises any other ResponseError."""
    if not isinstance(reply, ResponseError):
        return False
    if "cluster support disabled" in str(reply):
        return True
    raise reply


def parse_cluster_slots(reply: Sequence[Any], asked: Address) -> tuple[Shard, ...]:
    """The shards, by their lowest slot. A node that does not know its own address is the one asked."""
    slots: dict[tuple[Address, str], list[tuple[int, int]]] = {}
    try:
        for low, high, (host, port, node_id, *_), *_replicas in reply:
            if not 0 <= low <= high < SLOTS:
                raise ValueError(f"there are no slots {low} to {high}")
            name = _text(host or "")
            master = Address(asked.host if name in ("", "?") else name, int(port))
            slots.setdefault((master, _text(node_id)), []).append((low, high))
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a reply of CLUSTER SLOTS: {error}") from None
    shards = [Shard(master, node_id, tuple(sorted(mine))) for (master, node_id), mine in slots.items()]
    return tuple(sorted(shards, key=lambda shard: (shard.slots, shard.master)))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


@dataclass(frozen=True, slots=True)
class KnownNode:
    """One line of the reply.

    ``master``: the id of a replica's master, None for a master. ``slots``: inclusive ranges. ``failing``: the
    cluster has agreed that it does not answer. ``myself``: the node that was asked.
    """

    id: str
    address: Address
    master: str | None
    epoch: int
    slots: Slots
    failing: bool
    myself: bool

    @property
    def role(self) -> str:
        """``master`` or ``replica``."""
        return MASTER if self.master is None else REPLICA

    @property
    def tag(self) -> str:
        """The name of a master's shard; empty without slots."""
        return tag_for_slot(self.slots[0][0]) if self.slots else ""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What one node knows, by id."""

    nodes: dict[str, KnownNode]

    @property
    def own(self) -> KnownNode:
        """The node that was asked."""
        return next(node for node in self.nodes.values() if node.myself)

    @property
    def age(self) -> tuple[int, int]:
        """Of two views the one where this is greater is the newer: a failover raises an epoch."""
        healthy = sum(not node.failing for node in self.nodes.values())
        return max(node.epoch for node in self.nodes.values()), healthy

    @property
    def shards(self) -> int:
        """Masters that have slots."""
        return sum(bool(node.slots) for node in self.nodes.values())

    @property
    def slots_covered(self) -> int:
        """Slots whose master answers, as far as the cluster knows."""
        return sum(count_slots(node.slots) for node in self.nodes.values() if not node.failing)

    def tag_of(self, node: KnownNode) -> str:
        """The name of the node's shard; empty when it belongs to none."""
        if node.master is None:
            return node.tag
        master = self.nodes.get(node.master)
        return master.tag if master else ""


def view_of_reply(reply: bytes | ResponseError, asked: Address) -> ClusterView:
    """What a node replied to CLUSTER NODES; one that is in no cluster is a shard with every slot.

    Raises another ResponseError that is the reply, and ValueError for what is no reply of CLUSTER NODES.
    """
    if is_no_cluster(reply):
        return view_of_one(asked)
    assert isinstance(reply, bytes)
    return parse_cluster_nodes(reply.decode(), asked)


def parse_cluster_nodes(text: str, asked: Address) -> ClusterView:
    """Raises ValueError for what is no reply of CLUSTER NODES."""
    nodes = (_known_node(line.split(), asked) for line in text.splitlines() if line.strip())
    view = ClusterView({node.id: node for node in nodes if node is not None})
    if sum(node.myself for node in view.nodes.values()) != 1:
        raise ValueError("CLUSTER NODES does not say which node answers")
    return view


def view_of_one(asked: Address) -> ClusterView:
    """Of a server that is not in a cluster: one shard with every slot."""
    name = str(asked)
    return ClusterView({name: KnownNode(name, asked, None, 0, EVERY_SLOT, False, True)})


def _known_node(words: list[str], asked: Address) -> KnownNode | None:
    if len(words) < 8:
        raise ValueError(f"a line of CLUSTER NODES has {len(words)} words")
    node_id, address, flag_words, master, _, _, epoch, _, *slots = words
    flags = set(flag_words.split(","))
    if flags & NOT_OF_THE_CLUSTER:
        return None
    myself = "myself" in flags
    return KnownNode(
        node_id,
        asked if myself else _address(address),
        None if master == "-" else master,
        int(epoch),
        _slots(slots),
        "fail" in flags,
        myself,
    )


def _address(text: str) -> Address:
    """``ip:port@busport[,hostname[,name=value...]]``; the host's name, where there is one."""
    at, *more = text.split(",")
    ip, _, port = at.partition("@")[0].rpartition(":")
    hostname = more[0] if more and "=" not in more[0] else ""
    return Address(hostname or ip, int(port))


def _slots(words: Iterable[str]) -> Slots:
    """``0-99 200``; a slot on its way, ``[93->-id]``, still belongs to who has it."""
    ranges = (word.partition("-") for word in words if not word.startswith("["))
    return tuple(sorted((int(low), int(high or low)) for low, _, high in ranges))
