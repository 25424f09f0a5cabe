"""The reply of CLUSTER NODES: what one node knows of itself and of the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redis.exceptions import ResponseError

from keymiss.keys import SLOTS, tag_for_slot

Node = tuple[str, int]

MASTER, REPLICA = "master", "replica"
NOT_OF_THE_CLUSTER = {"handshake", "noaddr"}  # not yet, or not to be found: there is no address to ask


@dataclass(frozen=True, slots=True)
class KnownNode:
    """One line of the reply.

    ``master``: the id of a replica's master, None for a master. ``slots``: inclusive ranges. ``failing``: the
    cluster has agreed that it does not answer. ``myself``: the node that was asked.
    """

    id: str
    address: Node
    master: str | None
    epoch: int
    slots: tuple[tuple[int, int], ...]
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
        healthy = (node for node in self.nodes.values() if not node.failing)
        return sum(high - low + 1 for node in healthy for low, high in node.slots)

    def tag_of(self, node: KnownNode) -> str:
        """The name of the node's shard; empty when it belongs to none."""
        if node.master is None:
            return node.tag
        master = self.nodes.get(node.master)
        return master.tag if master else ""


def view_of_reply(reply: bytes | ResponseError, asked: Node) -> ClusterView:
    """What a node replied to CLUSTER NODES; one that is in no cluster is a shard with every slot.

    Raises another ResponseError that is the reply, and ValueError for what is no reply of CLUSTER NODES.
    """
    if not isinstance(reply, ResponseError):
        return parse_cluster_nodes(reply.decode(), asked)
    if "cluster support disabled" not in str(reply):
        raise reply
    return view_of_one(asked)


def parse_cluster_nodes(text: str, asked: Node) -> ClusterView:
    """Raises ValueError for what is no reply of CLUSTER NODES."""
    nodes = (_known_node(line.split(), asked) for line in text.splitlines() if line.strip())
    view = ClusterView({node.id: node for node in nodes if node is not None})
    if sum(node.myself for node in view.nodes.values()) != 1:
        raise ValueError("CLUSTER NODES does not say which node answers")
    return view


def view_of_one(asked: Node) -> ClusterView:
    """Of a server that is not in a cluster: one shard with every slot."""
    name = f"{asked[0]}:{asked[1]}"
    return ClusterView({name: KnownNode(name, asked, None, 0, ((0, SLOTS - 1),), False, True)})


def _known_node(words: list[str], asked: Node) -> KnownNode | None:
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


def _address(text: str) -> Node:
    """``ip:port@busport[,hostname[,name=value...]]``; the host's name, where there is one."""
    at, *more = text.split(",")
    ip, _, port = at.partition("@")[0].rpartition(":")
    hostname = more[0] if more and "=" not in more[0] else ""
    return hostname or ip, int(port)


def _slots(words: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """``0-99 200``; a slot on its way, ``[93->-id]``, still belongs to who has it."""
    ranges = (word.partition("-") for word in words if not word.startswith("["))
    return tuple(sorted((int(low), int(high or low)) for low, _, high in ranges))
