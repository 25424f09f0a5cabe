"""What the shards say of themselves, asked of every node at once when somebody wants to know.

A node is asked over a connection of its own, as the pooled ones may all be waiting for answers, and within
``NODE_TIMEOUT_S``; one that does not answer is down and costs the others nothing. Which nodes there are is
what is configured and what the nodes themselves know (CLUSTER NODES).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError, ResponseError

from keymiss.api.settings import ApiSettings, Node
from keymiss.cluster_nodes import MASTER, ClusterView, KnownNode, parse_cluster_nodes, view_of_one
from keymiss.connections import connected
from keymiss.shard_replies import RegistrationReply, ask_shard, replies_of

log = logging.getLogger(__name__)

NODE_TIMEOUT_S = 1.0
MAX_REGISTRATIONS = 50
"""Different ones of a shard; what is over is added up as `OTHER`, since a label must have few values."""
MAX_NAME_CHARACTERS = 80
OTHER = "other"


@dataclass(slots=True)
class RegistrationFigures:
    """Of one registration, or of several of one name; since the server's process started."""

    triggered: int = 0
    done: int = 0
    failed: int = 0
    aborted: int = 0
    total_ms: int = 0


@dataclass(frozen=True, slots=True)
class MasterFigures:
    """What one master says of its shard; what it refuses to say is None or not there.

    ``stats``: KM.STATS. ``models``: name without its tag -> figures of AI.INFO (duration in microseconds).
    ``registrations``: by description.
    """

    stats: Mapping[str, int]
    edges_waiting: int | None
    graph_concepts: int | None
    models: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    registrations: Mapping[str, RegistrationFigures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node. ``role`` is empty when nobody knows it, ``shard`` when it belongs to none.

    ``master``: of a master with slots that answered.
    """

    name: str
    up: bool
    role: str = ""
    shard: str = ""
    master: MasterFigures | None = None


@dataclass(frozen=True, slots=True)
class ClusterFigures:
    """All nodes, and what the one with the newest view says of the cluster; zeros when none answers."""

    nodes: tuple[NodeFigures, ...] = ()
    slots_covered: int = 0
    shards: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    view: ClusterView
    master: MasterFigures | None


class ShardFigures:
    """Asks the nodes. Whoever asks while others wait for an answer gets the same one."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._names: dict[str, Node] = {}  # id -> the address that it was asked at
        self._last: list[Node] = []  # nodes of the cluster when it was last seen
        self._reading: asyncio.Task[ClusterFigures] | None = None

    async def read(self) -> ClusterFigures:
        """Takes ``NODE_TIMEOUT_S`` at most, twice that when nodes have come that were not known yet."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="shard figures")
        return await asyncio.shield(self._reading)

    async def stop(self) -> None:
        """Ends what is being asked."""
        if self._reading:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    async def _read(self) -> ClusterFigures:
        answers = await self._ask([*self._settings.nodes, *self._last])
        view = _newest(answers.values())
        if view:
            new = [at for at in self._addresses(view) if at not in answers]
            answers |= await self._ask(new)
            view = _newest(answers.values())
        if view is None:
            return ClusterFigures(tuple(NodeFigures(_text(at), False) for at in answers))
        self._last = self._addresses(view)
        return ClusterFigures(tuple(self._nodes(answers, view)), view.slots_covered, view.shards)

    async def _ask(self, nodes: Iterable[Node]) -> dict[Node, _Answer | None]:
        each = list(dict.fromkeys(nodes))
        answers = dict(zip(each, await asyncio.gather(*map(self._ask_one, each)), strict=True))
        for at in reversed(each):  # a node of two addresses is named by the first
            if answer := answers[at]:
                self._names[answer.view.own.id] = at
        return answers

    async def _ask_one(self, at: Node) -> _Answer | None:
        try:
            async with (
                asyncio.timeout(NODE_TIMEOUT_S),
                connected(at, self._settings.credentials, NODE_TIMEOUT_S, "keymiss-metrics") as connection,
            ):
                return await _answer_of(connection, at)
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            log.debug("no figures of %s:%s: %r", *at, error)
            return None

    def _addresses(self, view: ClusterView) -> list[Node]:
        return [self._names.get(node.id, node.address) for node in view.nodes.values()]

    def _nodes(self, answers: Mapping[Node, _Answer | None], view: ClusterView) -> list[NodeFigures]:
        """Every node of the view, then those that answered or are configured and are not in it."""
        answered = {answer.view.own.id: answer for answer in answers.values() if answer}
        found: dict[Node, NodeFigures] = {}
        # A node that came back as another (new id, same address) is shown as the one that answers.
        for node in sorted(view.nodes.values(), key=lambda each: each.id in answered):
            at = self._names.get(node.id, node.address)
            found[at] = self._node(at, node, view.tag_of(node), answered.get(node.id))
        for node_id, answer in answered.items():
            if node_id not in view.nodes:
                at = self._names[node_id]
                found[at] = NodeFigures(_text(at), True, answer.view.own.role)
        for at in self._settings.nodes:
            if answers.get(at) is None and at not in found:
                found[at] = NodeFigures(_text(at), False)
        return [found[at] for at in sorted(found)]

    def _node(self, at: Node, node: KnownNode, tag: str, answer: _Answer | None) -> NodeFigures:
        is_shard = node.role == MASTER and bool(tag)
        master = answer.master if answer and is_shard else None
        return NodeFigures(_text(at), answer is not None, node.role, tag, master)


def _newest(answers: Iterable[_Answer | None]) -> ClusterView | None:
    views = [answer.view for answer in answers if answer]
    return max(views, key=lambda view: view.age, default=None)


def _text(node: Node) -> str:
    return f"{node[0]}:{node[1]}"


async def _answer_of(connection: Connection, at: Node) -> _Answer:
    (nodes,) = await replies_of(connection, ("CLUSTER", "NODES"))
    if isinstance(nodes, ResponseError):
        if "cluster support disabled" not in str(nodes):
            raise nodes
        view = view_of_one(at)
    else:
        view = parse_cluster_nodes(nodes.decode(), at)
    return _Answer(view, await _master_figures(connection, view.own.tag) if view.own.tag else None)


async def _master_figures(connection: Connection, tag: str) -> MasterFigures:
    said = await ask_shard(connection, tag)
    return MasterFigures(
        said.stats,
        said.edges_waiting,
        said.graph_concepts,
        {
            name: {figure: value for figure, value in info.items() if isinstance(value, int)}
            for name, info in said.models.items()
        },
        _registrations(said.registrations),
    )


def _registrations(replies: Iterable[RegistrationReply]) -> dict[str, RegistrationFigures]:
    """By name; those of one name are added up."""
    found: dict[str, RegistrationFigures] = {}
    for each in replies:
        name = each.name[:MAX_NAME_CHARACTERS]
        if name not in found and len(found) >= MAX_REGISTRATIONS:
            name = OTHER
        figures = found.setdefault(name, RegistrationFigures())
        figures.triggered += each.triggered
        figures.done += each.done
        figures.failed += each.failed
        figures.aborted += each.aborted
        figures.total_ms += each.total_ms
    return found
