"""One connection to one node, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.packing import packed
from keymiss.cluster.tls import Tls, TlsTrouble, trouble


class TlsConnection(SSLConnection):
    """With one context for all connections: redis-py makes each its own, which takes 30 ms."""

    def __init__(self, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls.context


def connection_to(
    address: Address, credentials: Credentials, connect_timeout_s: float, client_name: str
) -> Connection:
    """A RESP2 connection that opens at its first command, repeats nothing and waits for replies without a
    limit: that is the caller's. Without redis-py's CLIENT SETINFO, which no user of ours may: looking its own
    version up takes longer than a question."""
    tls = credentials.tls
    make: Any = partial(TlsConnection, tls) if tls else Connection
    connection: Connection = make(
        host=address.host,
        port=address.port,
        protocol=2,
        socket_timeout=None,
        socket_connect_timeout=connect_timeout_s,
        client_name=client_name,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
        **credentials.login,
    )
    return connection


@contextlib.asynccontextmanager
async def connected(
    address: Address, credentials: Credentials, connect_timeout_s: float, client_name: str
) -> AsyncIterator[Connection]:
    """A connection as of `connection_to`, open.

    Raises RedisError or OSError when the node cannot be reached or refuses the user, TlsTrouble among them.
    """
    connection = connection_to(address, credentials, connect_timeout_s, client_name)
    try:
        try:
            await connection.connect()
        except (RedisError, OSError) as error:
            if why := await asyncio.to_thread(trouble, error, address, credentials.tls):
                raise TlsTrouble(why) from error
            raise
        yield connection
    finally:
        await connection.disconnect(nowait=True)


async def replies_of(connection: Connection, *commands: Sequence[object]) -> list[Any]:
    """In one round trip; an error is a reply too."""
    await connection.send_packed_command(b"".join(map(packed, commands)))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
