"""Who owns which slots, and a bounded pool of connections to each master.

The map is read with CLUSTER SLOTS from any node that answers: every ``topology_poll_s``, and at once
when a command says that something moved or a master does not answer. A server without cluster mode
is one shard that owns every slot.

A GET that misses blocks its connection until the answer is there, so one connection carries one GET;
the pool's bound is the number of GETs in flight on that master, and what is over it waits its turn
inside its own time limit. A connection whose GET was given up is closed, which is how the module
learns that nobody waits.

A master that has let a time limit pass without a word is not asked again until it answers a PING: what would
wait for it fails at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from redis.exceptions import AskError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from keymiss.addresses import Address
from keymiss.cluster.async_connection import connected, connection_to, replies_of
from keymiss.cluster.connection_pool import ConnectionPool
from keymiss.cluster.credentials import Credentials, refusal
from keymiss.cluster.topology import NoShard, Shard, shard_at, shards_of_reply
from keymiss.keys import slot_of

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
TOPOLOGY_TIMEOUT_S = 1.0  # one node's answer to CLUSTER SLOTS
MIN_REFRESH_S = 0.2  # a burst of errors reads the map once
PING_EVERY_S = 0.2

Command = Sequence[str | bytes | int | float]


class MasterIsSilent(RedisConnectionError):
    """It has not answered in time, nor a PING since."""


class Access(Protocol):
    """How a process reaches the cluster."""

    @property
    def nodes(self) -> tuple[Address, ...]:
        """Where to begin: not all of them need be there."""

    @property
    def credentials(self) -> Credentials:
        """Who this process is."""

    @property
    def connections_per_shard(self) -> int:
        """At most so many to each master."""

    @property
    def topology_poll_s(self) -> float:
        """How often the slots are read again."""


class ShardMap:
    """The shards of the cluster and their connections. Start with `start`, end with `stop`."""

    def __init__(self, settings: Access) -> None:
        self._settings = settings
        self._pools: dict[Address, ConnectionPool] = {}
        self._poll: asyncio.Task[None] | None = None
        self._silent: dict[Address, asyncio.Task[None]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self.shards: tuple[Shard, ...] = ()
        self._owners: dict[int, Shard] = {}  # by slot, of those that were asked for
        self.refused: Exception | None = None  # why no node gave the map: user, password or TLS
        self.on_change: Callable[[tuple[Shard, ...]], Awaitable[None]] | None = None

    async def start(self) -> None:
        """Reads the map (a cluster that is away is no error here) and follows it from then on."""
        await self.refresh()
        self._poll = asyncio.create_task(self._follow(), name="topology")

    async def stop(self) -> None:
        """Closes every connection."""
        if self._poll:
            self._poll.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poll
        if self._reading:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        for ping in list(self._silent.values()):
            ping.cancel()
        for node in list(self._pools):
            await self._close(node)

    def _pool(self, node: Address) -> ConnectionPool:
        if node not in self._pools:
            self._pools[node] = ConnectionPool(
                lambda: connection_to(node, self._settings.credentials, CONNECT_TIMEOUT_S, "keymiss-api"),
                self._settings.connections_per_shard,
            )
        return self._pools[node]

    def shard_of(self, key: str) -> Shard:
        """The shard that owns a key. Raises NoShard."""
        slot = slot_of(key)
        if (owner := self._owners.get(slot)) is None:
            owner = self._owners[slot] = shard_at(self.shards, slot)
        return owner

    def name_of_shard(self, key: str, otherwise: str) -> str:
        """The tag of the shard that has a key now, or `otherwise` while no shard has its slot."""
        try:
            return self.shard_of(key).tag
        except NoShard:
            return otherwise

    @property
    def credentials(self) -> Credentials:
        """Who this process is."""
        return self._settings.credentials

    @property
    def silent(self) -> int:
        """How many masters have let a time limit pass, and do not answer yet."""
        return len(self._silent)

    def is_silent(self, node: Address) -> bool:
        """Whether it is one of them."""
        return node in self._silent

    def was_silent(self, node: Address) -> None:
        """A master has let a time limit pass that it knew of."""
        if node not in self._silent:
            log.warning("%s does not answer: it is not asked until it does", node)
            self._silent[node] = asyncio.create_task(self._until_it_answers(node), name="silent")

    async def _until_it_answers(self, node: Address) -> None:
        try:
            while node in (shard.master for shard in self.shards):
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    async with asyncio.timeout(TOPOLOGY_TIMEOUT_S):
                        await _reply_from(node, self._settings.credentials, "PING")
                        break
                await asyncio.sleep(PING_EVERY_S)
        finally:
            del self._silent[node]

    async def execute(self, key: str, *command: str | bytes | int | float) -> Any:
        """Runs a command on the master that owns ``key``; follows MOVED and ASK, and a failover, once.

        Raises what redis-py raises; the time limit is the caller's.
        """
        return (await self.execute_together(key, command))[0]

    async def execute_together(self, key: str, *commands: Command) -> list[Any]:
        """Runs commands that all use ``key`` only, in one round trip on one connection, as `execute` does.

        They are not a transaction: others' commands may run in between. Where one of them is sent elsewhere
        (MOVED, ASK) or the connection is lost, all are run again on the other node, so a command must do no
        harm when it runs twice. Returns the replies; raises the first reply that is an error.
        """
        try:
            return await self._run(self.shard_of(key).master, commands)
        except MovedError as error:  # before AskError, of which redis-py derives it
            self._read_at = float("-inf")
            await self.refresh()
            return await self._run(Address(error.host, error.port), commands)
        except AskError as error:
            return await self._run(Address(error.host, error.port), commands, asking=True)
        except MasterIsSilent:
            raise
        except (RedisConnectionError, OSError):
            await self.refresh()
            return await self._run(self.shard_of(key).master, commands)

    async def _run(self, node: Address, commands: Sequence[Command], asking: bool = False) -> list[Any]:
        if self.is_silent(node):
            raise MasterIsSilent(f"{node} does not answer")
        if asking:  # holds for the next command only
            commands = [each for command in commands for each in (("ASKING",), command)]
        replies = await self.replies_at(node, commands)
        return replies[1::2] if asking else replies

    async def replies_at(self, node: Address, commands: Sequence[Command]) -> list[Any]:
        """In one round trip on one connection of the pool. Raises the first reply that is an error."""
        replies = await self._pool(node).replies(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def execute_at(self, node: Address, key: str, *command: str | bytes | int | float) -> Any:
        """Runs a command that names its keys to the module only, on a node that owns them; after a failover,
        once more, where ``key`` lies then. Raises what redis-py raises."""
        try:
            return (await self._run(node, [command]))[0]
        except MasterIsSilent:
            raise
        except (RedisConnectionError, OSError):
            await self.refresh()
            return (await self._run(self.shard_of(key).master, [command]))[0]

    async def refresh(self) -> None:
        """Reads the map again, unless that was just done. Keeps the old one when no node answers. Goes on for
        the others when one who waits for it is cancelled: who follows the map must hear of each."""
        if asyncio.get_running_loop().time() - self._read_at < MIN_REFRESH_S:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="map")
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        shards = await self._read_from_any()
        self._read_at = asyncio.get_running_loop().time()
        if shards is None or shards == self.shards:
            return
        log.info("shards: %s", ", ".join(f"{{{s.tag}}} {s.address}" for s in shards))
        self.shards = shards
        self._owners.clear()
        if self.on_change:
            await self.on_change(shards)
        for node in set(self._pools) - {shard.master for shard in self.shards}:
            await self._close(node)

    async def _read_from_any(self) -> tuple[Shard, ...] | None:
        nodes = dict.fromkeys([shard.master for shard in self.shards] + list(self._settings.nodes))
        refused: Exception | None = None
        for node in sorted(nodes, key=self.is_silent):
            try:
                async with asyncio.timeout(TOPOLOGY_TIMEOUT_S):
                    shards = await _read_from(node, self._settings.credentials)
            except (RedisError, OSError, TimeoutError, ValueError) as error:
                log.debug("no topology from %s: %s", str(node), error)
                refused = refused or (error if refusal(error, self._settings.credentials) else None)
                continue
            if shards:
                self.refused = None
                return shards
        self.refused = refused
        why = refusal(refused, self._settings.credentials)
        log.warning("no node gives the cluster's slots%s", f": {why}" if why else "")
        return None

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._settings.topology_poll_s)
            try:
                await self.refresh()
            except Exception:  # the loop must outlive whatever one round runs into
                log.exception("reading the topology failed")

    async def _close(self, node: Address) -> None:
        if pool := self._pools.pop(node, None):
            await pool.close()


async def _read_from(node: Address, credentials: Credentials) -> tuple[Shard, ...]:
    """One node's map, over a connection of its own: a pool full of waiting GETs must not hide it."""
    return shards_of_reply(await _reply_from(node, credentials, "CLUSTER", "SLOTS"), node)


async def _reply_from(node: Address, credentials: Credentials, *command: str) -> Any:
    async with connected(node, credentials, CONNECT_TIMEOUT_S, "keymiss-topology") as connection:
        return (await replies_of(connection, command))[0]
