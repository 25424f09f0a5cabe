"""Commands that belong together follow a slot that is moving (ASK) and one that has moved (MOVED)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import ResponseError

from keymiss.addresses import parse_addresses
from keymiss.api.settings import ApiSettings
from keymiss.cluster.shard_map import ShardMap
from keymiss.keys import slot_of
from tests.servers import RedisClusterServers

KEY = "a key"


@pytest.fixture
def two() -> Iterator[RedisClusterServers]:
    """Two masters of this test's own: it moves a slot."""
    with RedisClusterServers(masters=2, module=False) as servers:
        yield servers


async def test_a_moving_slot_and_a_moved_one(two: RedisClusterServers) -> None:
    slot = slot_of(KEY)
    old = two.server_of(KEY)
    new = next(node for node in two.masters if node is not old)
    shards = ShardMap(ApiSettings(nodes=parse_addresses(two.addresses), topology_poll_s=3600))
    await shards.start()
    try:
        assert await shards.execute_together(KEY, ("EXISTS", KEY), ("SET", KEY, "1")) == [0, b"OK"]
        with old.client() as source, new.client() as target:
            ids = [client.execute_command("CLUSTER MYID") for client in (source, target)]
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
            source.execute_command("MIGRATE", "127.0.0.1", new.port, KEY, 0, 5000)
            assert await shards.execute_together(KEY, ("EXISTS", KEY), ("GET", KEY)) == [1, b"1"]
            assert await shards.execute(KEY, "GET", KEY) == b"1"
            for client in (target, source):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
        assert shards.shard_of(KEY).master.port == old.port
        assert await shards.execute_together(KEY, ("EXISTS", KEY), ("GET", KEY)) == [1, b"1"]
        assert shards.shard_of(KEY).master.port == new.port, "MOVED makes it read the map again"
    finally:
        await shards.stop()


async def test_the_first_error_is_raised_as_the_server_said_it(two: RedisClusterServers) -> None:
    """And the connection can be used again: every reply was read."""
    shards = ShardMap(ApiSettings(nodes=parse_addresses(two.addresses), connections_per_shard=1))
    await shards.start()
    try:
        for _ in range(3):
            with pytest.raises(ResponseError, match=r"^WRONGTYPE|^unknown command"):
                await shards.execute_together(KEY, ("SET", KEY, "2"), ("NOSUCH", KEY), ("GET", KEY))
            assert await shards.execute(KEY, "GET", KEY) == b"2"
    finally:
        await shards.stop()
