"""Whether anything of the concept graph in the cluster has changed: every master says so, on a connection for
nothing else, so that a change is heard at once. One that is cut off without a word is missed after 10 s."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Hashable, Iterable

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from keymiss.addresses import Address
from keymiss.cluster.async_connection import connected
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.key_changes import tell_changes
from keymiss.keys import GRAPH_EDGE_PREFIX, GRAPH_YEARS_PREFIX

log = logging.getLogger(__name__)

PREFIXES = GRAPH_EDGE_PREFIX, GRAPH_YEARS_PREFIX
"""What links and the sentences behind them are read from."""

CONNECT_TIMEOUT_S = 2.0
RETRY_S = 2.0
PING_S = 5.0  # a silent connection is asked whether it is alive


class GraphChanges:
    """Listens to masters, from `listen` to `stop`."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._listening: dict[Address, asyncio.Task[None]] = {}
        self._changes = itertools.count()
        self._last: dict[Address, int] = {}  # of those that are heard

    @property
    def version(self) -> Hashable | None:
        """Another one after each change; None while it is not known whether there are any. What was read, and
        had the same version before and after, is right as long as that is the version."""
        versions = tuple(self._last.get(node) for node in self._listening)
        return None if not versions or None in versions else versions

    def listen(self, masters: Iterable[Address]) -> None:
        """To these and no others."""
        wanted = set(masters)
        for node in self._listening.keys() - wanted:
            self._listening.pop(node).cancel()
            self._last.pop(node, None)
        for node in wanted - self._listening.keys():
            self._listening[node] = asyncio.create_task(self._listen(node), name=f"graph {node}")

    async def stop(self) -> None:
        """Listens to none."""
        tasks = list(self._listening.values())
        self.listen(())
        if tasks:
            await asyncio.wait(tasks, timeout=CONNECT_TIMEOUT_S)

    async def _listen(self, node: Address) -> None:
        while True:
            try:
                async with connected(node, self._credentials, CONNECT_TIMEOUT_S, "keymiss-graph") as news:
                    await tell_changes(news, PREFIXES)
                    try:
                        await self._follow(node, news)
                    finally:
                        self._last.pop(node, None)  # before the connection is closed, which may take a while
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("changes of the graph at %s: %s; again in %s s", node, error, RETRY_S)
            except Exception:  # a fault of ours must not end it for good
                log.exception("changes of the graph at %s", str(node))
            await asyncio.sleep(RETRY_S)

    async def _follow(self, node: Address, news: Connection) -> None:
        self._last[node] = next(self._changes)
        silent = False
        while True:
            message = await news.read_response(timeout=PING_S)
            if message is None:
                if silent:
                    raise RedisConnectionError(f"no answer to PING within {PING_S} s")
                await news.send_command("PING")
            elif message[0] == b"message":
                self._last[node] = next(self._changes)
            silent = message is None
