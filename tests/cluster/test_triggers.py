"""RG.TRIGGER and RG.TRIGGERONKEY run a CommandReader's function."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.servers import RedisClusterServers, RedisServer, WorkerProcess


@pytest.fixture(scope="module")
def shard() -> Iterator[redis.Redis]:
    with RedisServer() as server, WorkerProcess(server), server.client(decode_responses=True) as client:
        yield client


def upload(client: redis.Redis, script: str, *options: str) -> None:
    assert client.execute_command("RG.PYEXECUTE", script, *options) == "OK"


@pytest.mark.parametrize("mode", ["async", "async_local", "sync"])
def test_the_words_are_the_record(shard: redis.Redis, mode: str) -> None:
    upload(
        shard,
        f"GB('CommandReader').flatmap(lambda w: w[1:]).sort().register(trigger='s-{mode}', mode='{mode}')",
    )
    assert shard.execute_command("RG.TRIGGER", f"s-{mode}", "b", "a", "c") == ["a", "b", "c"]


def test_results_keep_their_types_if_told_so(shard: redis.Redis) -> None:
    upload(
        shard,
        "GB('CommandReader').flatmap(lambda w: [7, '+OK', '-ERR no', None, [1, 'x']])"
        ".register(trigger='types', convertToStr=False, mode='async_local')",
    )
    nested, nothing, error, status, number = shard.execute_command("RG.TRIGGER", "types")
    assert (nested, nothing, number) == ([1, "x"], None, 7)
    assert status in ("OK", True)
    assert str(error) == "no"


def test_an_error_is_the_reply(shard: redis.Redis) -> None:
    upload(shard, "GB('CommandReader').map(lambda w: w[5]).register(trigger='error')")
    upload(shard, "GB('CommandReader').map(lambda w: flat_error('as it is')).register(trigger='flat')")
    with pytest.raises(redis.ResponseError, match="IndexError: list index out of range"):
        shard.execute_command("RG.TRIGGER", "error")
    with pytest.raises(redis.ResponseError, match=r"^as it is$"):
        shard.execute_command("RG.TRIGGER", "flat")
    with pytest.raises(redis.ResponseError, match="subcommand not found"):
        shard.execute_command("RG.TRIGGER", "nobody")


def test_where_nobody_can_wait(shard: redis.Redis) -> None:
    upload(shard, "GB('CommandReader').count().register(trigger='waits')")
    upload(shard, "GB('CommandReader').count().register(trigger='waits-sync', mode='sync')")
    for name in ("waits", "waits-sync"):
        with shard.pipeline(transaction=True) as pipe:
            pipe.execute_command("RG.TRIGGER", name)
            with pytest.raises(redis.ResponseError, match="blocking is not allowed"):
                pipe.execute()
        with pytest.raises(redis.ResponseError, match="blocking is not allowed"):
            shard.eval("return redis.call('RG.TRIGGER', ARGV[1])", 0, name)


def test_a_trigger_is_there_once(shard: redis.Redis) -> None:
    script = "GB('CommandReader').count().register(trigger='once')"
    upload(shard, script)
    with pytest.raises(redis.ResponseError, match="trigger already registered"):
        upload(shard, script)
    with pytest.raises(redis.ResponseError, match="trigger already registered in this session"):
        upload(shard, script.replace("once", "twice") + "\n" + script.replace("once", "twice"))


def test_functions_of_one_upload_share_their_globals(shard: redis.Redis) -> None:
    upload(
        shard,
        "seen = []\n"
        "GB('CommandReader').foreach(lambda w: seen.append(w[1])).register(trigger='put')\n"
        "GB('CommandReader').map(lambda w: ','.join(seen)).register(trigger='got')",
    )
    shard.execute_command("RG.TRIGGER", "put", "x")
    shard.execute_command("RG.TRIGGER", "put", "y")
    assert shard.execute_command("RG.TRIGGER", "got") == ["x,y"]


def test_on_a_cluster() -> None:
    with RedisClusterServers(masters=2, replicas=1) as servers, WorkerProcess(servers):
        first, second = (master.client(decode_responses=True) for master in servers.masters)
        upload(first, "GB('CommandReader').count().register(trigger='shards')")
        upload(first, "GB('CommandReader').count().register(trigger='here', mode='async_local')")
        upload(
            first,
            "GB('CommandReader').map(lambda w: execute('SET', w[1], w[2]))"
            ".register(trigger='put', mode='sync')",
        )
        for client in (first, second):
            assert client.execute_command("RG.TRIGGER", "shards") == ["2"]
            assert client.execute_command("RG.TRIGGER", "here") == ["1"]
        owner = servers.server_of("k")
        for master in servers.masters:
            with master.client(decode_responses=True) as client:
                if master is owner:
                    assert client.execute_command("RG.TRIGGERONKEY", "put", "k", "v") == ["OK"]
                    assert client.get("k") == "v"
                else:
                    with pytest.raises(redis.exceptions.MovedError):
                        client.execute_command("RG.TRIGGERONKEY", "put", "k", "v")
        with servers.replicas[0].client() as replica, pytest.raises(redis.ReadOnlyError):
            replica.execute_command("RG.TRIGGER", "here")
