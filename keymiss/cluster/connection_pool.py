"""At most so many connections to one node, for asyncio.

redis-py's own pool takes a lock, a condition and a task for each exchange: as long as the exchange itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from keymiss.cluster.async_connection import replies_of


class ConnectionPool:
    """Connections that `make` makes; they stay open. One carries one exchange at a time: who finds all of
    them in use waits, first come, first served."""

    def __init__(self, make: Callable[[], Connection], most: int) -> None:
        self._make = make
        self._turns = asyncio.Semaphore(most)
        self._free: list[Connection] = []
        self._in_use: set[Connection] = set()
        self._closed = False

    async def replies(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        """In one round trip on one connection; an error is a reply too. Raises RedisError, OSError."""
        async with self._turns:
            if self._closed:
                raise RedisConnectionError("connections to this node were closed meanwhile")
            connection = self._free.pop() if self._free else self._make()
            self._in_use.add(connection)
            try:
                # what the server has closed can be read
                if connection.is_connected and await connection.can_read():
                    await connection.disconnect(nowait=True)
                return await replies_of(connection, *commands)
            except BaseException:  # an unread reply must never be taken for the next command's
                await connection.disconnect(nowait=True)
                raise
            finally:
                self._in_use.remove(connection)
                self._free.append(connection)
                if self._closed:  # while it connected
                    await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Closes every connection for good; exchanges under way fail. Does not wait for the node."""
        self._closed = True
        for connection in (*self._free, *self._in_use):
            if connection._writer:  # close() of TLS waits for the node's last word
                connection._writer.transport.abort()
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
