"""A question that is given up while the cluster's map is read for it: what follows the map misses nothing."""

from __future__ import annotations

import asyncio

import pytest

from keymiss.api.settings import ApiSettings
from keymiss.cluster.shard_map import MIN_REFRESH_S, ShardMap
from keymiss.cluster.topology import Shard
from tests.servers import RedisServer


async def test_who_gives_up_does_not_end_it_for_all() -> None:
    with RedisServer(module=False) as old, RedisServer(module=False) as new:
        nodes = tuple(("127.0.0.1", server.port) for server in (old, new))
        shards = ShardMap(ApiSettings(nodes=nodes, topology_poll_s=3600))
        await shards.start()
        begun, goes_on = asyncio.Event(), asyncio.Event()
        followed: list[int] = []

        async def follow(now: tuple[Shard, ...]) -> None:
            begun.set()
            await goes_on.wait()
            followed.extend(shard.master.port for shard in now)

        shards.on_change = follow
        try:
            old.kill()
            await asyncio.sleep(MIN_REFRESH_S)  # so soon it is not read again
            given_up, waits = (asyncio.create_task(shards.refresh()) for _ in range(2))
            await begun.wait()
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            goes_on.set()
            await waits
            assert followed == [new.port]
        finally:
            goes_on.set()
            await shards.stop()
