"""Asking every node of a cluster at once, for /metrics and for `keymiss status`.

Which nodes there are is what is given and what the nodes themselves know (CLUSTER NODES). Each is asked over
a connection of its own, as pooled ones may all be waiting for answers, and within a time; one that does not
answer costs the others nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError

from keymiss.addresses import Address
from keymiss.cluster.async_connection import connected
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.topology import ClusterView, KnownNode

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What one node said: of the cluster, and of itself."""

    view: ClusterView
    said: T


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """``by_node``: the answer of each address that was asked, or why there is none. ``view``: the newest of
    them, None when no node answers. ``names``: id -> the address at which a node answers, or did."""

    by_node: Mapping[Address, Answer[T] | Exception]
    view: ClusterView | None
    names: Mapping[str, Address]

    @property
    def by_id(self) -> dict[str, Answer[T]]:
        """Those that answered."""
        return {each.view.own.id: each for each in self.by_node.values() if isinstance(each, Answer)}

    def address_of(self, node: KnownNode) -> Address:
        """The one at which it was asked, else the one that the cluster knows."""
        return self.names.get(node.id, node.address)


class NodeAsker(Generic[T]):
    """Asks all nodes, again and again; those that the cluster had when it was last seen are remembered.

    ``ask_one`` is given a connection and the address that it goes to.
    """

    def __init__(
        self,
        given: Sequence[Address],
        credentials: Credentials,
        timeout_s: float,
        client_name: str,
        ask_one: Callable[[Connection, Address], Awaitable[Answer[T]]],
    ) -> None:
        self._given = given
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._client_name = client_name
        self._ask_one = ask_one
        self._names: dict[str, Address] = {}
        self._known: list[Address] = []

    async def ask(self) -> Answers[T]:
        """Takes timeout_s at most, twice that when nodes turn up that were not known yet."""
        by_node = await self._ask([*self._given, *self._known])
        view = _newest(by_node.values())
        if view:
            by_node |= await self._ask(at for at in self._addresses(view) if at not in by_node)
            view = _newest(by_node.values())
        if view:
            self._known = self._addresses(view)
        return Answers(by_node, view, self._names)

    async def _ask(self, nodes: Iterable[Address]) -> dict[Address, Answer[T] | Exception]:
        each = list(dict.fromkeys(nodes))
        answers = dict(zip(each, await asyncio.gather(*map(self._answer_of, each)), strict=True))
        for at in reversed(each):  # a node of two addresses is named by the first
            answer = answers[at]
            if isinstance(answer, Answer):
                self._names[answer.view.own.id] = at
        return answers

    async def _answer_of(self, at: Address) -> Answer[T] | Exception:
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                connected(at, self._credentials, self._timeout_s, self._client_name) as connection,
            ):
                return await self._ask_one(connection, at)
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            log.debug("no answer of %s: %r", str(at), error)
            return error

    def _addresses(self, view: ClusterView) -> list[Address]:
        return [self._names.get(node.id, node.address) for node in view.nodes.values()]


def _newest(answers: Iterable[Answer[T] | Exception]) -> ClusterView | None:
    views = [answer.view for answer in answers if isinstance(answer, Answer)]
    return max(views, key=lambda view: view.age, default=None)
