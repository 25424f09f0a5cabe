"""What `keymiss status` knows: every node asked at once, each for NODE_TIMEOUT_S at most.

A node that does not answer in time is down. It needs no more rights than the user `monitor` of
acl/users.acl.template has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from keymiss.addresses import Address
from keymiss.cluster.async_connection import replies_of
from keymiss.cluster.credentials import Credentials, refusal
from keymiss.cluster.every_node import Answer, Answers, NodeAsker
from keymiss.cluster.shard_replies import ask_shard
from keymiss.cluster.topology import MASTER, REPLICA, KnownNode, count_slots, parts_in, view_of_reply
from keymiss.keys import SLOTS

NODE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model of one shard (AI.INFO); figures since its server started. `digest` is its tag: of what
    keymiss.models.load stores the first 12 characters of the SHA-256."""

    name: str
    backend: str
    digest: str
    calls: int
    errors: int
    samples: int
    duration_us: int

    @property
    def mean_ms(self) -> float | None:
        """Of a call; None before the first."""
        return self.duration_us / self.calls / 1000 if self.calls else None


@dataclass(frozen=True, slots=True)
class RegistrationStatus:
    """A function that is registered on one shard; figures since its server started."""

    name: str
    triggered: int
    failed: int
    last_error: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. `error`: why it is down, or cannot be used; then most of the rest is not known.

    `role` is master, replica or "" (nobody knows it), `shard` the hash tag of its shard or "". Of a replica
    `link` is up or down and `behind_bytes` what it lacks of its master's stream. `stats` (KM.STATS), `edges`,
    `concepts`, `models` and `registrations` are of masters with slots only.
    """

    at: str
    error: str = ""
    refused: str = ""
    role: str = ""
    shard: str = ""
    master: str = ""
    slots: int = 0
    run_id: str = ""
    keys: int = 0
    used_memory_bytes: int = 0
    commands: int = 0
    ops_per_s: float = 0.0
    clients: int = 0
    link: str = ""
    link_down_s: int = 0
    offset: int = 0
    behind_bytes: int | None = None
    stats: Mapping[str, int] = field(default_factory=dict)
    edges: int = 0
    concepts: int = 0
    models: tuple[ModelStatus, ...] = ()
    registrations: tuple[RegistrationStatus, ...] = ()

    @property
    def is_shard(self) -> bool:
        """A master that has slots."""
        return self.role == MASTER and self.slots > 0


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """All nodes at one moment, those of a shard together and its master first. `state` is ok or fail."""

    t: float
    state: str
    slots_covered: int
    nodes: tuple[NodeStatus, ...]

    @property
    def shards(self) -> list[NodeStatus]:
        """The masters that have slots."""
        return [node for node in self.nodes if node.is_shard]

    @property
    def problems(self) -> list[str]:
        """What does not run, a sentence each."""
        found = [f"{node.at} is down: {node.error}" for node in self.nodes if node.error]
        if len(found) == len(self.nodes):
            return found
        if self.state != "ok":
            found.append(f"the cluster is down (cluster_state:{self.state or 'not known'})")
        if self.slots_covered < SLOTS:
            found.append(f"{SLOTS - self.slots_covered} slots have no master")
        found += [f"{node.at} has lost its master" for node in self.nodes if node.link == "down"]
        idle = [f"{{{node.shard}}}" for node in self.shards if not (node.error or node.stats.get("workers"))]
        return [*found, *([f"no worker at {' '.join(idle)}"] if idle else [])]


@dataclass(frozen=True, slots=True)
class _Said:
    """What one node says of the cluster's state and of itself."""

    state: str
    node: NodeStatus


class ClusterAsker:
    """Asks all nodes, again and again. The nodes that a cluster had once are remembered."""

    def __init__(self, nodes: Sequence[Address], credentials: Credentials) -> None:
        self._credentials = credentials
        self._asker = NodeAsker(nodes, credentials, NODE_TIMEOUT_S, "keymiss-status", _answer_of)

    async def ask(self) -> ClusterStatus:
        """Takes NODE_TIMEOUT_S at most, twice that when nodes turn up that were not known yet."""
        answers = await self._asker.ask()
        good = answers.by_id.values()
        state = "ok" if good and all(answer.said.state == "ok" for answer in good) else "fail"
        covered = answers.view.slots_covered if answers.view else 0
        return ClusterStatus(time.time(), state, covered, tuple(self._nodes(answers)))

    def _nodes(self, answers: Answers[_Said]) -> list[NodeStatus]:
        """In the order of their shards' slots; those that the newest view does not have come last."""
        silent = {
            at: self._down(at, answer)
            for at, answer in answers.by_node.items()
            if isinstance(answer, Exception)
        }
        view = answers.view
        if view is None:
            return list(silent.values())
        by_id = answers.by_id
        found = []
        for node in view.nodes.values():
            at = answers.address_of(node)
            answer, down = by_id.pop(node.id, None), silent.pop(at, None)
            one = answer.said.node if answer else down or NodeStatus(str(at), "no answer")
            master = view.nodes.get(node.master or "")
            master_at = str(answers.address_of(master)) if master else ""
            slots = count_slots(node.slots)
            shard = view.tag_of(node)
            found.append(replace(one, role=node.role, shard=shard, master=master_at, slots=slots))
        found = [_with_lag(node, found) for node in found]
        first = {tag: slot for node in view.nodes.values() for slot, tag in [(node.slots[:1], node.tag)]}
        found.sort(key=lambda node: (not node.shard, first.get(node.shard, ()), node.role != MASTER, node.at))
        return [*found, *(answer.said.node for answer in by_id.values()), *_strangers(silent, found)]

    def _down(self, at: Address, error: Exception) -> NodeStatus:
        if isinstance(error, TimeoutError):
            return NodeStatus(str(at), f"no answer within {NODE_TIMEOUT_S:g} s")
        refused = refusal(error, self._credentials)
        return NodeStatus(str(at), refused or _reason(error), refused)


def _strangers(silent: Mapping[Address, NodeStatus], found: Sequence[NodeStatus]) -> list[NodeStatus]:
    """Given nodes that do not answer, and that the cluster does not have by that address. A name that has no
    address while its node is down may be that of a node that is in `found` by its number: when there are
    enough of them there, it is not listed twice."""
    down = sum(bool(node.error) for node in found)
    return list(silent.values()) if len(silent) > down else []


def _with_lag(node: NodeStatus, all_nodes: Sequence[NodeStatus]) -> NodeStatus:
    """How far a replica is behind; the two were asked at slightly different moments."""
    if node.role != REPLICA or node.error:
        return node
    master = next((each for each in all_nodes if each.at == node.master and not each.error), None)
    return replace(node, behind_bytes=max(0, master.offset - node.offset)) if master else node


def _reason(error: Exception) -> str:
    """Short: a library's own words around the system's are left out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            found = cause.strerror
            return found.partition("] ")[2] or found if found.startswith("[") else _without_call(found)
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()) or type(error).__name__


def _without_call(text: str) -> str:
    """asyncio's "Connect call failed ('127.0.0.1', 1)" in the words of the system."""
    return "connection refused" if text.startswith("Connect call failed") else text


async def _answer_of(connection: Connection, at: Address) -> Answer[_Said]:
    info_reply, nodes, cluster_info, keys = await replies_of(
        connection,
        ("INFO", "server", "clients", "memory", "stats", "replication", "persistence"),
        ("CLUSTER", "NODES"),
        ("CLUSTER", "INFO"),
        ("DBSIZE",),
    )
    if isinstance(info_reply, ResponseError):
        raise info_reply
    info = _lines(info_reply)
    view = view_of_reply(nodes, at)
    if isinstance(nodes, ResponseError):
        state = "ok"
    else:
        state = _lines(cluster_info).get("cluster_state", "") if isinstance(cluster_info, bytes) else ""
    is_replica = info.get("role") == "slave"
    node = NodeStatus(
        at=str(at),
        error="it is loading its data" if info.get("loading") == "1" else "",
        run_id=info.get("run_id", ""),
        keys=keys if isinstance(keys, int) else 0,
        used_memory_bytes=int(info.get("used_memory", 0)),
        commands=int(info.get("total_commands_processed", 0)),
        ops_per_s=float(info.get("instantaneous_ops_per_sec", 0)),
        clients=int(info.get("connected_clients", 0)),
        link=info.get("master_link_status", "") if is_replica else "",
        link_down_s=int(info.get("master_link_down_since_seconds", 0)),
        offset=int(info.get("slave_repl_offset" if is_replica else "master_repl_offset", 0)),
    )
    if view.own.role == MASTER and view.own.tag:
        node = await _with_shard(connection, node, view.own)
    own = view.own
    node = replace(node, role=own.role, shard=own.tag, slots=count_slots(own.slots))
    return Answer(view, _Said(state, node))


async def _with_shard(connection: Connection, node: NodeStatus, own: KnownNode) -> NodeStatus:
    """The figures of a master's shard; what it refuses to say stays empty."""
    said = await ask_shard(connection, own.tag, parts_in(own.slots))
    return replace(
        node,
        stats=said.stats,
        edges=said.edges_waiting or 0,
        concepts=said.graph_concepts or 0,
        models=tuple(_model(name, info) for name, info in said.models.items()),
        registrations=tuple(
            RegistrationStatus(each.name, each.triggered, each.failed, each.last_error)
            for each in said.registrations
        ),
    )


def _lines(reply: bytes) -> dict[str, str]:
    """``name:value`` lines of INFO."""
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _model(name: str, info: Mapping[str, Any]) -> ModelStatus:
    return ModelStatus(
        name,
        str(info["backend"]),
        str(info["tag"])[:12],
        int(info["calls"]),
        int(info["errors"]),
        int(info["samples"]),
        int(info["duration"]),
    )
