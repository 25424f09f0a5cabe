"""What a script or a MULTI wrote is there after a restart from the AOF, also if `default` may not write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.servers import RedisServer, connect, open_folder, wait_until

ADMIN = {"username": "admin", "password": "secret"}
MAY_READ = "user default on nopass resetchannels %R~* -@all +@read +@connection (+set ~key:*)"
SLOW_LOAD = ("--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024")
"""100 ms for each key of the RDB in an AOF, and clients are served in between."""


def users(default: str) -> str:
    """A file of Redis users."""
    file = Path(open_folder()) / "users.acl"
    file.write_text(f"{default}\nuser admin on >{ADMIN['password']} ~* &* +@all\n")
    return str(file)


@pytest.fixture(params=[MAY_READ, "user default off"], ids=["default may read", "default is off"])
def limited(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer("--aclfile", users(request.param), appendonly=True, login=ADMIN) as server:
        yield server


def test_all_is_there_and_the_users_are_as_before(limited: RedisServer) -> None:
    with limited.client() as client:
        with client.pipeline(transaction=True) as multi:
            multi.set("multi:1", "a").set("multi:2", "b").execute()
        script = "redis.call('SET', KEYS[1], 'c') redis.call('AI.TENSORSET', KEYS[2], 'INT8', 1, 'VALUES', 7)"
        client.eval(script, 2, "script:1", "script:2")
        before = client.execute_command("ACL", "LIST")
    limited.restart(save=False)
    with limited.client() as client:
        assert client.mget("multi:1", "multi:2", "script:1") == [b"a", b"b", b"c"]
        assert client.exists("script:2")
        assert client.execute_command("ACL", "LIST") == before
    assert "could not set" not in limited.tail()


def test_nobody_is_default_meanwhile() -> None:
    with RedisServer("--aclfile", users(MAY_READ), appendonly=True, login=ADMIN) as server:
        with server.client() as client:
            client.mset({f"key:{i}": os.urandom(2048) for i in range(40)})
            client.bgrewriteaof()
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 20, "rewritten")
        server.shutdown(save=False)
        server.command += SLOW_LOAD
        server.spawn(server.command)
        wait_until(lambda: _is_loading(server), 20, "it loads")
        with connect(server.port) as early:
            with pytest.raises(redis.AuthenticationError, match="Authentication required"):
                early.get("key:1")
            wait_until(lambda: early.exists("key:1"), 30, "anybody may read again")
            with pytest.raises(redis.exceptions.NoPermissionError):
                early.set("other", "x")


def _is_loading(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.info("persistence")["loading"])
