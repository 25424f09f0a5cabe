"""A node that says which of its keys change, on a connection that does nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

READ_TIMEOUT_S = 10.0

INVALIDATIONS = b"__redis__:invalidate"


async def tell_changes(news: Connection, prefixes: Iterable[str]) -> None:
    """From now on the connection gets a message ``[b"message", ..., keys]`` whenever keys with these prefixes
    change, before who changed them has the reply; keys None: all may have.

    CLIENT TRACKING in broadcast mode. RESP2: the messages are redirected to the connection that asks for
    them, as pub/sub.
    """
    own_id = await call(news, "CLIENT", "ID")
    parts = (part for prefix in prefixes for part in ("PREFIX", prefix))
    await call(news, "CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST", *parts)
    await call(news, "SUBSCRIBE", INVALIDATIONS)


async def call(connection: Connection, *command: Any) -> Any:
    """One command, one reply. A reply that does not come within READ_TIMEOUT_S is a lost connection."""
    await connection.send_command(*command)
    reply = await connection.read_response(timeout=READ_TIMEOUT_S)
    if reply is None:
        await connection.disconnect(nowait=True)
        raise RedisConnectionError(f"{command[0]}: no answer within {READ_TIMEOUT_S} s")
    return reply
