"""What the shards say of themselves, asked of every node at once when somebody wants to know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from redis.asyncio.connection import Connection

from keymiss.addresses import Address
from keymiss.api.settings import ApiSettings
from keymiss.cluster.async_connection import replies_of
from keymiss.cluster.every_node import Answer, Answers, NodeAsker
from keymiss.cluster.shard_replies import RegistrationReply, ask_shard
from keymiss.cluster.topology import MASTER, KnownNode, parts_in, view_of_reply

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
    evicted: int | None = None


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


class ShardFigures:
    """Asks the nodes. Whoever asks while others wait for an answer gets the same one."""

    def __init__(self, settings: ApiSettings) -> None:
        self._configured = settings.nodes
        self._asker = NodeAsker(
            settings.nodes, settings.credentials, NODE_TIMEOUT_S, "keymiss-metrics", _answer_of
        )
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
        answers = await self._asker.ask()
        if answers.view is None:
            return ClusterFigures(tuple(NodeFigures(str(at), False) for at in answers.by_node))
        view = answers.view
        return ClusterFigures(tuple(self._nodes(answers)), view.slots_covered, view.shards)

    def _nodes(self, answers: Answers[MasterFigures | None]) -> list[NodeFigures]:
        """Every node of the view, then those that answered or are configured and are not in it."""
        view, answered = answers.view, answers.by_id
        assert view is not None
        found: dict[Address, NodeFigures] = {}
        # A node that came back as another (new id, same address) is shown as the one that answers.
        for node in sorted(view.nodes.values(), key=lambda each: each.id in answered):
            at = answers.address_of(node)
            found[at] = _node(at, node, view.tag_of(node), answered.get(node.id))
        for node_id, answer in answered.items():
            if node_id not in view.nodes:
                at = answers.names[node_id]
                found[at] = NodeFigures(str(at), True, answer.view.own.role)
        for at in self._configured:
            if at not in found and not isinstance(answers.by_node.get(at), Answer):
                found[at] = NodeFigures(str(at), False)
        return [found[at] for at in sorted(found)]


def _node(at: Address, node: KnownNode, tag: str, answer: Answer[MasterFigures | None] | None) -> NodeFigures:
    is_shard = node.role == MASTER and bool(tag)
    master = answer.said if answer and is_shard else None
    return NodeFigures(str(at), answer is not None, node.role, tag, master)


async def _answer_of(connection: Connection, at: Address) -> Answer[MasterFigures | None]:
    (nodes,) = await replies_of(connection, ("CLUSTER", "NODES"))
    view = view_of_reply(nodes, at)
    return Answer(view, await _master_figures(connection, view.own) if view.own.tag else None)


async def _master_figures(connection: Connection, own: KnownNode) -> MasterFigures:
    said = await ask_shard(connection, own.tag, parts_in(own.slots))
    return MasterFigures(
        said.stats,
        said.edges_waiting,
        said.graph_concepts,
        {
            name: {figure: value for figure, value in info.items() if isinstance(value, int)}
            for name, info in said.models.items()
        },
        _registrations(said.registrations),
        said.evicted,
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
