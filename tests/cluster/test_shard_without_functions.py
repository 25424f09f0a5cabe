"""A shard that lacks a function that others have says so to a GET, where null would read as "no answer"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.hand_worker import Asker, HandWorker, bulk, register_miss
from tests.servers import RedisClusterServers, RedisServer, keymiss_info, wait_until

A, B = "bertqa{a}_x:{a}:0_Who?", "bertqa{b}_x:{b}:0_Who?"


@pytest.fixture
def shards() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=2, replicas=1) as cluster:
        yield cluster


def refused(server: RedisServer, key: str) -> bool:
    """True once the GET is refused for want of a function; a null until the other shard was heard."""
    try:
        reply = server.client().get(key)
    except redis.exceptions.ResponseError as error:
        reply = str(error)
    assert reply is None or (reply.startswith("NOFUNCTION ") and "gears upload" in reply)
    return reply is not None


def test_it_says_so_until_it_has_the_function(shards: RedisClusterServers) -> None:
    has, lacks = shards.server_of(A), shards.server_of(B)
    register_miss(has.client())
    wait_until(lambda: refused(lacks, B), 10, "the shard without functions says so")
    client = lacks.client()
    assert keymiss_info(client)["refused_nofunction"] == 1
    assert client.get("something{b}") is None  # other keys are none of its business
    client.set(B, "v")
    assert [client.get(B), client.get(B)] == [b"v", b"v"]
    client.delete(B)
    with client.pipeline(transaction=True) as pipe:  # nobody can wait here, so plain Redis's reply
        assert pipe.get(B).execute() == [None]
    replica = shards.replicas[shards.masters.index(lacks)].client()
    replica.execute_command("READONLY")
    assert replica.get(B) is None
    register_miss(client)
    worker = HandWorker(lacks)
    asker = Asker(lacks, "GET", B)
    (job,) = worker.pull()
    worker.done(job, bulk(b"answered"))
    assert asker.result() == b"answered"


def test_null_again_when_no_shard_has_it(shards: RedisClusterServers) -> None:
    has, lacks = shards.server_of(A), shards.server_of(B)
    register_miss(has.client())
    wait_until(lambda: refused(lacks, B), 10, "the shard without functions says so")
    has.client().execute_command("KM.UNREGISTER", "miss-0")
    wait_until(lambda: not refused(lacks, B), 10, "it has heard that nobody has it")


def test_a_shard_that_is_gone_is_forgotten() -> None:
    settings = ("--cluster-require-full-coverage", "no")
    with RedisClusterServers(*settings, masters=3) as shards:  # two of three are a majority
        has, lacks = shards.server_of(A), shards.server_of(B)
        register_miss(has.client())
        wait_until(lambda: refused(lacks, B), 10, "the shard without functions says so")
        has.kill()
        wait_until(lambda: not refused(lacks, B), 20, "what it announced is forgotten")


def test_all_shards_have_it(shards: RedisClusterServers) -> None:
    for master in shards.masters:
        register_miss(master.client())
    worker = HandWorker(shards.server_of(B))
    asker = Asker(shards.server_of(B), "GET", B)
    (job,) = worker.pull()
    worker.done(job, bulk(b"answered"))
    assert asker.result() == b"answered"
    for master in shards.masters:
        assert keymiss_info(master.client())["refused_nofunction"] == 0
