"""A CommandReader's hook runs in the place of a command; a KeysReader with commands hears of those alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started, WorkerProcess(started):
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client(decode_responses=True) as made:
        yield made
        for row in made.execute_command("RG.DUMPREGISTRATIONS"):
            made.execute_command("RG.UNREGISTER", row[1])
        made.flushall()


def upload(client: redis.Redis, script: str) -> None:
    assert client.execute_command("RG.PYEXECUTE", script) == "OK"


TIME = """
def stamp(words):
    return call_next(*words[1:], 'changed', execute('TIME')[0])
GB('CommandReader').map(stamp).register(hook='hset', mode='sync'{more})
"""
COUNT = """
def count(words):
    execute('HINCRBY', words[1], 'times', 1)
    return call_next(*words[1:])
GB('CommandReader').map(count).register(hook='HSET', mode='sync', convertToStr=False)
"""


def test_hooks_run_one_behind_the_other(client: redis.Redis) -> None:
    upload(client, TIME.format(more=", convertToStr=False"))
    upload(client, COUNT)
    assert client.hset("h", "f", "v") == 2
    assert client.hset("h", "f", "w") == 0
    assert client.hget("h", "times") == "2"
    assert client.hexists("h", "changed")


def test_only_keys_with_the_prefix(client: redis.Redis) -> None:
    upload(client, TIME.format(more=", keyprefix='person:'"))
    client.hset("person:1", "f", "v")
    client.hset("other:1", "f", "v")
    assert client.hexists("person:1", "changed")
    assert not client.hexists("other:1", "changed")


def test_a_hook_may_refuse_or_answer_by_itself(client: redis.Redis) -> None:
    upload(
        client,
        "GB('CommandReader').map(lambda w: '-ERR not you' if w[1] == 'x' else call_next(*w[1:]))"
        ".register(hook='set')",
    )
    with pytest.raises(redis.ResponseError, match="not you"):
        client.set("x", 1)
    assert client.set("y", 1)
    assert (client.get("x"), client.get("y")) == (None, "1")


def test_an_error_and_a_wrong_number_of_results(client: redis.Redis) -> None:
    upload(client, "GB('CommandReader').map(lambda w: w[9]).register(hook='set')")
    upload(client, "GB('CommandReader').flatmap(lambda w: w).register(hook='append')")
    with pytest.raises(redis.ResponseError, match="IndexError"):
        client.set("x", 1)
    with pytest.raises(redis.ResponseError, match="exactly one result"):
        client.append("x", "1")


def test_what_cannot_be_hooked_twice(client: redis.Redis) -> None:
    script = "GB('CommandReader').map(lambda w: 1).register(hook='hset')"
    upload(client, script)
    with pytest.raises(redis.ResponseError, match="Can not override a none sync registration"):
        upload(client, script.replace("1)", "2)"))


def test_where_nobody_can_wait_it_is_refused(client: redis.Redis) -> None:
    upload(client, TIME.format(more=""))
    with client.pipeline(transaction=True) as pipe:
        pipe.hset("h", "f", "v")
        with pytest.raises(redis.ResponseError, match="hooked command inside a MULTI/LUA"):
            pipe.execute()
    with pytest.raises(redis.ResponseError, match="hooked command inside a MULTI/LUA"):
        client.eval("return redis.call('HSET', KEYS[1], 'f', 'v')", 1, "h")
    assert not client.exists("h")


def test_what_functions_send_is_not_hooked(client: redis.Redis) -> None:
    upload(
        client, "GB('CommandReader').map(lambda w: execute('SET', w[1], 'by the hook')).register(hook='set')"
    )
    assert client.set("x", 1)
    assert client.get("x") == "by the hook"


def test_a_user_who_may_not_may_not(client: redis.Redis, server: RedisServer) -> None:
    """The function has the worker's permissions; the client's are looked at before."""
    upload(client, "GB('CommandReader').map(lambda w: call_next(*w[1:])).register(hook='hset', mode='sync')")
    client.execute_command(
        "ACL", "SETUSER", "some", "on", ">p", "~mine:*", "-@all", "+hset", "+km.hook", "+ping"
    )
    client.execute_command("ACL", "SETUSER", "less", "on", ">p", "~*", "-@all", "+hget", "+km.hook", "+ping")
    with server.client(username="some", password="p") as some:
        assert int(some.hset("mine:1", "f", "v")) == 1
        with pytest.raises(redis.exceptions.NoPermissionError):
            some.hset("yours:1", "f", "v")
        with pytest.raises(redis.exceptions.NoPermissionError):
            some.execute_command("KM.HOOK", "SET", "mine:2", "v")
    with (
        server.client(username="less", password="p") as less,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        less.hset("mine:1", "f", "v")


def test_an_unregistered_hook_is_gone(client: redis.Redis) -> None:
    upload(client, "GB('CommandReader').map(lambda w: 'hooked').register(hook='get')")
    assert client.get("x") == "hooked"
    (row,) = client.execute_command("RG.DUMPREGISTRATIONS")
    assert row[7][row[7].index("args") + 1] == ["hook", "get", "keyprefix", "*"]
    client.execute_command("RG.UNREGISTER", row[1])
    assert client.get("x") is None


def test_events_of_named_commands_and_their_reply(client: redis.Redis) -> None:
    upload(
        client,
        "def say(r):\n"
        "    execute('RPUSH', 'log', r['event'])\n"
        "    override_reply('-ERR taken') if r['value'] == 'no' else None\n"
        "GB().foreach(say).register('k:', commands=['set'], mode='async_local')",
    )
    assert client.set("k:1", "yes")  # nothing was put in the place of its own reply
    assert client.lrange("log", 0, -1) == ["set"]  # it waited for the function
    with pytest.raises(redis.ResponseError, match="taken"):
        client.set("k:1", "no")
    client.append("k:1", "x")
    client.set("other", "no")
    assert client.lrange("log", 0, -1) == ["set", "set"]
    with client.pipeline(transaction=True) as pipe:
        assert pipe.set("k:2", "no").execute() == [True]  # nobody waits
    wait_until(lambda: client.llen("log") == 3, 20, "but the function hears of it")


def test_on_a_cluster_and_on_a_replica() -> None:
    with RedisClusterServers(masters=2, replicas=1) as servers, WorkerProcess(servers):
        with servers.masters[0].client() as first:
            upload_raw = "GB('CommandReader').map(lambda w: 'hooked').register(hook='get', mode='sync')"
            assert first.execute_command("RG.PYEXECUTE", upload_raw) == b"OK"
        owner = servers.server_of("k")
        for master in servers.masters:
            with master.client(decode_responses=True) as client:
                if master is owner:
                    assert client.get("k") == "hooked"
                else:
                    with pytest.raises(redis.exceptions.MovedError):
                        client.get("k")
        master_of = {
            replica: replica.client().info("replication")["master_port"] for replica in servers.replicas
        }
        for replica, port in master_of.items():
            if port != owner.port:
                continue
            with replica.client(decode_responses=True) as client:
                wait_until(lambda client=client: client.execute_command("KM.REGISTRATIONS"), 20, "replicated")  # type: ignore[misc]
                with pytest.raises(redis.exceptions.MovedError):
                    client.get("k")
                client.execute_command("READONLY")
                assert client.get("k") is None  # as plain Redis says it
