"""One connection to one node, for asyncio, outside of any pool."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials


@contextlib.asynccontextmanager
async def connected(
    address: Address, credentials: Credentials, connect_timeout_s: float, client_name: str
) -> AsyncIterator[Connection]:
    """A RESP2 connection that repeats nothing and waits for replies without a limit: that is the caller's.

    Raises RedisError or OSError when the node cannot be reached or refuses the user.
    """
    connection = Connection(
        host=address.host,
        port=address.port,
        protocol=2,
        socket_timeout=None,
        socket_connect_timeout=connect_timeout_s,
        client_name=client_name,
        driver_info=None,  # else redis-py looks its own version up, which takes longer than a question
        retry=Retry(NoBackoff(), 0),
        **credentials.login,
    )
    try:
        await connection.connect()
        yield connection
    finally:
        await connection.disconnect(nowait=True)


async def replies_of(connection: Connection, *commands: tuple[str, ...]) -> list[Any]:
    """In one round trip; an error is a reply too."""
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
