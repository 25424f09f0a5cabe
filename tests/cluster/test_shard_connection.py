"""A worker's connection to a shard: what goes along with the next command, limits, servers that close it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from keymiss.addresses import Address
from keymiss.cluster import shard_connection
from keymiss.cluster.credentials import NO_CREDENTIALS
from keymiss.cluster.shard_connection import ShardConnection
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def to(server: RedisServer, timeout_s: float = 5.0, *, tells: bool = False) -> ShardConnection:
    address = Address("127.0.0.1", server.port)
    return ShardConnection(address, timeout_s, NO_CREDENTIALS, tells=tells)


def close_from_there(server: RedisServer, connection: ShardConnection) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "ID", connection.command("CLIENT", "ID"))


def test_what_is_posted_goes_before_the_next_command(server: RedisServer) -> None:
    connection, refused = to(server), list[Exception]()
    connection.command("DEL", "n")
    for command in (("INCR", "n"), ("HGET", "n", "x"), ("INCR", "n")):
        connection.post(command, refused.append)
    with server.client() as client:
        assert client.get("n") is None
    assert connection.command("GET", "n") == b"2"
    assert ["wrong kind of value" in str(error) for error in refused] == [True]
    assert connection.command("GET", "n") == b"2"
    connection.post(("INCR", "n"), refused.append)
    connection.send_posted()
    connection.send_posted()
    assert connection.pipeline([("GET", "n"), ("PING",)]) == [b"3", b"PONG"]


def test_who_posted_is_told_when_the_shard_is_gone(server: RedisServer) -> None:
    with RedisServer() as other:
        connection, refused = to(other), list[Exception]()
        assert connection.command("PING") == b"PONG"
    connection.post(("INCR", "n"), refused.append)
    with pytest.raises(ConnectionError):
        connection.command("PING")
    connection.post(("INCR", "n"), refused.append)
    connection.send_posted()
    assert [type(error) for error in refused] == [ConnectionError, ConnectionError]


@pytest.mark.parametrize("timeout_s", [None, 0.3])
def test_a_reply_that_does_not_come_in_time(server: RedisServer, timeout_s: float | None) -> None:
    """The next command's reply is its own, and the connection has its usual limit again."""
    connection = to(server, 0.3 if timeout_s is None else 60.0)
    with pytest.raises(TimeoutError):
        connection.command("BLPOP", "nothing", 0, timeout_s=timeout_s)
    assert connection.command("ECHO", "mine") == b"mine"
    if timeout_s is not None:
        assert connection.command("BLPOP", "nothing", 0.6) is None


def test_more_than_a_socket_takes(server: RedisServer) -> None:
    connection = to(server)
    value = b"x" * 20_000_000
    assert connection.command("SET", "large", value) == b"OK"
    assert connection.pipeline([("GET", "large"), ("DEL", "large")]) == [value, 1]
    with pytest.raises(ResponseError, match="unknown command"):
        connection.command("NOTHING")


@pytest.mark.parametrize("tells", [False, True])
def test_a_connection_that_was_closed_while_it_was_idle(
    server: RedisServer, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection: Any = to(server, tells=tells)
    close_from_there(server, connection)
    monkeypatch.setattr(shard_connection, "IDLE_S", 0.0)
    if tells:
        with pytest.raises(ConnectionError, match="closed the connection"):
            connection.command("PING")
    assert connection.command("PING") == b"PONG"


def test_all_kinds_of_words_and_replies(server: RedisServer) -> None:
    connection = to(server)
    words = [b"bytes", "text \udc80", 7, 2.5, True, bytearray(b"array"), memoryview(b"view")]
    assert connection.command("RPUSH", "kinds", *words) == 7
    kept = [b"bytes", b"text \x80", b"7", b"2.5", b"1", b"array", b"view"]
    assert connection.command("CONFIG GET", "maxclients")[0] == b"maxclients"  # two words in one
    replies = connection.pipeline(
        [
            ["LRANGE", "kinds", 0, -1],
            ["GET", "absent"],
            ["GET", "kinds"],
            ["LRANGE", "absent", 0, -1],
            ["PING"],
        ]
    )
    assert isinstance(replies[2], ResponseError)
    assert replies[:2] == [kept, None]
    assert replies[3:] == [[], b"PONG"]
    with pytest.raises(ResponseError, match="wrong number"):
        connection.command("GET")
    assert connection.command("EVAL", "return {redis.error_reply('ERR inside'), 1}", 0)[1] == 1


def test_a_reply_of_many_parts(server: RedisServer) -> None:
    connection = to(server)
    large = b"x" * 3_000_000
    assert connection.pipeline([["SET", "large", large], ["GET", "large"], ["PING"]]) == [
        b"OK",
        large,
        b"PONG",
    ]


def test_a_server_that_still_loads_is_an_error_of_the_connection(server: RedisServer) -> None:
    """redis-py's BusyLoadingError is a ConnectionError: raised, and the next command has a new connection."""
    connection = to(server)
    loading = ["EVAL", "return redis.error_reply('LOADING Redis is loading the dataset in memory')", 0]
    for commands in ([loading], [["PING"], loading, ["PING"]]):
        with pytest.raises(ConnectionError, match="loading"):
            connection.pipeline(commands)
    assert connection.command("PING") == b"PONG"
