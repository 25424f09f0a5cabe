"""MOVED comes through for a watched key of another shard, and the right shard answers."""

from __future__ import annotations

import pytest
import redis

from tests.hand_worker import Asker, HandWorker, bulk, register_miss
from tests.servers import RedisClusterServers


def test_moved_comes_through(cluster: RedisClusterServers) -> None:
    key = "bertqa{6fd}_a:{6fd}:0_Who?"
    owner = cluster.server_of(key)
    other = next(node for node in cluster.masters if node is not owner)
    for node in cluster.masters:
        register_miss(node.client())
    with pytest.raises(redis.exceptions.MovedError):
        other.client().get(key)
    worker = HandWorker(owner)
    asker = Asker(owner, "GET", key)
    (job,) = worker.pull()
    worker.done(job, bulk(b"here"))
    assert asker.result() == b"here"
