"""A sentence is found all the time while its slot goes to another shard, and when its shard is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from keymiss.addresses import Address
from keymiss.keys import article_tag, paragraphs_key, sentence_key, slot_of, vectors_key
from keymiss.reading.stored_vector import to_field
from keymiss.retrieval import Retrieval
from keymiss.retrieval.follow import ShardFollower
from keymiss.retrieval.index import ShardIndex
from tests.api.test_retrieval_vectors import ENCODER, axis, encoded
from tests.cluster.redis_cli_cluster import node_id
from tests.patience import Limit
from tests.servers import RedisClusterServers

TAG, SLOT = article_tag("A"), slot_of(paragraphs_key("A"))
KEY, VECTORS = sentence_key("A", TAG), vectors_key("A", TAG)
TEXT = "Viruses spread by droplets."


@pytest.fixture
def servers() -> Iterator[RedisClusterServers]:
    """The first has the sentence's slot."""
    with RedisClusterServers(masters=2) as running:
        if SLOT >= 8192:
            running.nodes.reverse()
        with running.nodes[0].client() as client:
            client.hset(KEY, "0", TEXT)
        yield running


@contextlib.asynccontextmanager
async def following(servers: RedisClusterServers, count: int) -> AsyncIterator[Retrieval]:
    """The first so many masters."""
    retrieval = Retrieval()
    try:
        await retrieval.follow(masters(servers, count))
        yield retrieval
    finally:
        await retrieval.stop()


def masters(servers: RedisClusterServers, count: int) -> dict[str, Address]:
    return {f"shard{at}": Address("127.0.0.1", node.port) for at, node in enumerate(servers.nodes[:count])}


async def shards_that_find(retrieval: Retrieval) -> list[str]:
    return [tag for tag, some in (await retrieval.candidates("droplets", 5)).items() if some]


async def found_on(retrieval: Retrieval, tag: str, always: bool = True) -> None:
    """Waits until that shard has it and no other; until then it is found too, if `always`."""
    limit = Limit(15)
    while True:
        finding = await shards_that_find(retrieval)
        indexed = [each for each, index in retrieval.indexes().items() if KEY.encode() in index]
        if finding == indexed == [tag]:
            return
        assert finding or not always, "it is not found"
        assert not limit.reached(), "not in time"
        await asyncio.sleep(0.005)


def begin(servers: RedisClusterServers) -> None:
    one, other = servers.nodes
    with one.client() as source, other.client() as target:
        target.execute_command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", node_id(one))
        source.execute_command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", node_id(other))
        assert source.execute_command("MIGRATE", "127.0.0.1", other.port, KEY, 0, 5000) == b"OK"


def end(servers: RedisClusterServers) -> None:
    for server in servers.nodes[::-1]:
        with server.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", node_id(servers.nodes[1]))


async def test_it_goes_when_the_other_has_it(servers: RedisClusterServers) -> None:
    async with following(servers, 2) as retrieval:
        await found_on(retrieval, "shard0", always=False)
        begin(servers)
        await found_on(retrieval, "shard1")
        end(servers)
        await found_on(retrieval, "shard1")
        with servers.nodes[1].client() as client:
            client.delete(KEY)
        limit = Limit(5)
        while await shards_that_find(retrieval):
            assert not limit.reached(), "what is deleted after a move is still found"
            await asyncio.sleep(0.02)


async def test_its_vector_is_found_all_the_time_too(servers: RedisClusterServers) -> None:
    """It comes a moment after the sentence."""
    with servers.nodes[0].client() as client:
        client.hset(VECTORS, "0", to_field(TEXT, axis(1), ENCODER))
    async with following(servers, 2) as retrieval:
        await found_on(retrieval, "shard0", always=False)
        begin(servers)
        until = (
            asyncio.get_running_loop().time() + 1.5
        )  # the first lets go of what another has within half of it
        while asyncio.get_running_loop().time() < until:
            assert await best_cosine(retrieval) == pytest.approx(1, abs=2e-3)
            await asyncio.sleep(0.01)
        assert retrieval.lacking_vectors(ENCODER) == {"shard1"}
        with servers.nodes[0].client() as source:
            moved = source.execute_command("MIGRATE", "127.0.0.1", servers.nodes[1].port, VECTORS, 0, 5000)
            assert moved == b"OK"
        end(servers)
        await found_on(retrieval, "shard1")
        assert await best_cosine(retrieval) == pytest.approx(1, abs=2e-3)
        assert retrieval.lacking_vectors(ENCODER) == set()


async def best_cosine(retrieval: Retrieval) -> float | None:
    found = await retrieval.candidates("droplets", 5, encoded(1))
    (one,) = (each for some in found.values() for each in some)
    return one.cosine


async def test_a_shard_that_nobody_knew_before_gets_it(servers: RedisClusterServers) -> None:
    async with following(servers, 1) as retrieval:
        await found_on(retrieval, "shard0", always=False)
        begin(servers)
        end(servers)
        until = asyncio.get_running_loop().time() + 1
        while asyncio.get_running_loop().time() < until:
            assert await shards_that_find(retrieval) == ["shard0"]
            await asyncio.sleep(0.02)
        await retrieval.follow(masters(servers, 2))
        await found_on(retrieval, "shard1")


async def test_a_shard_that_is_gone_is_searched_until_others_have_it(servers: RedisClusterServers) -> None:
    async with following(servers, 1) as retrieval:
        await found_on(retrieval, "shard0", always=False)
        begin(servers)
        end(servers)
        await retrieval.follow({"shard1": masters(servers, 2)["shard1"]})
        await found_on(retrieval, "shard1")


async def test_what_leaves_two_shards_is_not_there_for_either() -> None:
    """It went on to a third before the first heard that the second has it."""
    follower = ShardFollower(Address("127.0.0.1", 1))
    follower.index.put(KEY.encode(), {b"0": TEXT.encode()})
    follower.index.commit()
    follower.ready.set()
    assert follower.keeps(KEY.encode(), ShardIndex())
    await follower.leave()
    assert KEY.encode() in follower.index
    assert not follower.keeps(KEY.encode(), ShardIndex())
    await follower.stop()
