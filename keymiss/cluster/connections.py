"""One connection to one node, outside of any pool."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from keymiss.cluster.credentials import Credentials


@contextlib.asynccontextmanager
async def connected(
    node: tuple[str, int], credentials: Credentials, connect_timeout_s: float, client_name: str
) -> AsyncIterator[Connection]:
    """A RESP2 connection that repeats nothing and waits for replies without a limit: that is the caller's.

    Raises RedisError or OSError when the node cannot be reached or refuses the user.
    """
    connection = Connection(
        host=node[0],
        port=node[1],
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
