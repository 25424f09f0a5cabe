"""At most so many connections to a master, each of them for one exchange at a time."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from keymiss.addresses import Address
from keymiss.cluster.async_connection import connection_to
from keymiss.cluster.connection_pool import ConnectionPool
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials
from tests.patience import patient
from tests.servers import NEEDS_TLS, RedisServer, ServerTls, wait_until

MOST = 2
NAME = "pooled"
FOR_GOOD = ("BLPOP", "nothing", 0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(module=False) as running:
        yield running


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client
        client.flushall()


@pytest.fixture
async def pool(server: RedisServer) -> AsyncIterator[ConnectionPool]:
    made = ConnectionPool(
        lambda: connection_to(Address("127.0.0.1", server.port), NO_CREDENTIALS, 5, NAME), MOST
    )
    yield made
    await made.close()


def connected(admin: redis.Redis) -> list[str]:
    """The ids of the pool's connections."""
    return [each["id"] for each in admin.client_list() if each["name"] == NAME]


async def blocked(admin: redis.Redis, count: int) -> None:
    def are() -> bool:
        return bool(admin.info("clients")["blocked_clients"] == count)

    await asyncio.to_thread(wait_until, are, 10, f"{count} wait")


async def test_one_connection_is_enough_for_one_after_another(
    pool: ConnectionPool, admin: redis.Redis
) -> None:
    for number in range(3):
        assert await pool.replies([("SET", "a", number), ("GET", "a")]) == [b"OK", b"%d" % number]
    assert len(connected(admin)) == 1


async def test_who_finds_all_in_use_waits(pool: ConnectionPool, admin: redis.Redis) -> None:
    waiting = [asyncio.create_task(pool.replies([FOR_GOOD])) for _ in range(MOST)]
    await blocked(admin, MOST)
    next_one = asyncio.create_task(pool.replies([("PING",)]))
    gives_up = asyncio.create_task(pool.replies([("PING",)]))
    assert await asyncio.wait([next_one, gives_up], timeout=0.1) == (set(), {next_one, gives_up})
    gives_up.cancel()
    admin.rpush("nothing", "a")
    assert await next_one == [b"PONG"]
    admin.rpush("nothing", "b")
    assert sorted([(await each)[0][1] for each in waiting]) == [b"a", b"b"]
    assert [await pool.replies([("PING",)]) for _ in range(MOST + 1)] == [[b"PONG"]] * (MOST + 1)
    assert len(connected(admin)) == MOST


async def test_one_that_was_given_up_is_closed_and_its_reply_is_nobody_elses(
    pool: ConnectionPool, admin: redis.Redis
) -> None:
    for _ in range(MOST + 1):
        waiting = asyncio.create_task(pool.replies([FOR_GOOD]))
        await blocked(admin, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await blocked(admin, 0)
        assert connected(admin) == []
    admin.rpush("nothing", "a")
    assert await pool.replies([("ECHO", "mine")]) == [b"mine"]


async def test_one_that_the_server_closed_is_opened_again(pool: ConnectionPool, admin: redis.Redis) -> None:
    await pool.replies([("PING",)])
    (before,) = connected(admin)
    admin.client_kill_filter(_id=before)
    await asyncio.to_thread(wait_until, lambda: connected(admin) == [], 10, "it is closed")
    assert await pool.replies([("PING",)]) == [b"PONG"]
    assert connected(admin) != [before]


async def test_an_error_is_a_reply(pool: ConnectionPool) -> None:
    first, second = await pool.replies([("GET",), ("PING",)])
    assert isinstance(first, ResponseError)
    assert second == b"PONG"


async def test_nobody_is_there() -> None:
    with RedisServer(module=False) as server:
        address = Address("127.0.0.1", server.port)
    pool = ConnectionPool(lambda: connection_to(address, NO_CREDENTIALS, 5, NAME), 1)
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            await pool.replies([("PING",)])


async def test_what_is_under_way_fails_when_it_is_closed(pool: ConnectionPool, admin: redis.Redis) -> None:
    waiting = asyncio.create_task(pool.replies([FOR_GOOD]))
    await blocked(admin, 1)
    await pool.close()
    with pytest.raises((RedisConnectionError, OSError)):
        await waiting


@NEEDS_TLS
async def test_closing_does_not_wait_for_a_node_that_is_silent(tmp_path: Path) -> None:
    tls = ServerTls(tmp_path)
    with RedisServer(module=False, tls=tls) as server, server.client() as admin:
        address, user = Address("127.0.0.1", server.port), Credentials(tls=tls.trusted)
        pool = ConnectionPool(lambda: connection_to(address, user, 5, NAME), MOST)
        waiting = asyncio.create_task(pool.replies([FOR_GOOD]))
        await blocked(admin, 1)
        server.signal(signal.SIGSTOP)
        try:
            await pool.close()
            async with asyncio.timeout(patient(5)):
                with pytest.raises((RedisConnectionError, OSError)):
                    await waiting
        finally:
            server.signal(signal.SIGCONT)


async def test_who_waits_for_one_is_not_served_by_a_closed_pool(
    pool: ConnectionPool, admin: redis.Redis
) -> None:
    waiting = [asyncio.create_task(pool.replies([FOR_GOOD])) for _ in range(MOST + 1)]
    await blocked(admin, MOST)
    await pool.close()
    for each in waiting:
        with pytest.raises((RedisConnectionError, OSError)):
            await each
    await asyncio.to_thread(wait_until, lambda: connected(admin) == [], 10, "all are closed")


async def test_whenever_others_are_given_up_each_reply_is_of_its_own_command(
    pool: ConnectionPool, admin: redis.Redis
) -> None:
    chance = random.Random(8)
    whole = 0

    async def ask(number: int) -> None:
        nonlocal whole
        mine = [f"{number} {at} ".encode() + b"." * chance.choice((1, 1, 100_000)) for at in range(3)]
        assert await pool.replies([("ECHO", each) for each in mine]) == mine
        whole += 1

    for first in range(0, 1200, 6):
        tasks = [asyncio.create_task(ask(number)) for number in range(first, first + 6)]
        for task in tasks:
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            if chance.random() < 0.7:
                task.cancel()
        if chance.random() < 0.1:
            admin.client_kill_filter(_type="normal", skipme=True)
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, (asyncio.CancelledError, RedisConnectionError)), ended
    assert 100 < whole < 1100, "some end, some are given up"
    waiting = [asyncio.create_task(pool.replies([FOR_GOOD])) for _ in range(MOST + 1)]
    await blocked(admin, MOST)  # each connection can still be taken, and no more
    admin.rpush("nothing", *range(MOST + 1))
    assert sorted([(await each)[0][1] for each in waiting]) == [b"%d" % each for each in range(MOST + 1)]
