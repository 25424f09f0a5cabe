"""`keymiss migrate`: what was made of articles under the tag of their shard goes to that of their slot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.topology import shard_of
from keymiss.graph.cluster_writer import ClusterGraph
from keymiss.graph.events import EdgeEvent
from tests.cluster import pipeline
from tests.servers import RedisClusterServers, WorkerProcess, tags_of

TABLE = pipeline.table("C1,influenza,flu", "C2,fever,")
NAMES = [f"OLD{number}" for number in range(12)]
SENTENCE = "Influenza often begins with fever."
KINDS = (keys.sentence_key, keys.state_key, keys.tokens_key, keys.concepts_key)


@pytest.fixture
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=3) as running:
        yield running


def as_before(client: RedisCluster) -> None:
    """Under the shard's tag, by nobody's event: no function is registered yet."""
    shards = shards_of(client)
    for name in NAMES:
        new, old = keys.article_tag(name), shard_of(shards, keys.paragraphs_key(name)).tag
        for key_of in KINDS:
            client.restore(key_of(name, old), 0, client.dump(key_of(name, new)), replace=True)
        for key_of in (keys.tokenized_key, keys.offsets_key):
            client.restore(key_of(name, old, 0), 0, client.dump(key_of(name, new, 0)), replace=True)
        client.unlink(*(key_of(name, new) for key_of in KINDS))
        client.unlink(*(key_of(name, new, 0) for key_of in (keys.tokenized_key, keys.offsets_key)))
    for key in list(client.scan_iter("graph:*", target_nodes=RedisCluster.PRIMARIES)):
        client.unlink(key)
    for tag in tags_of(client):
        mine = [name for name in NAMES if shard_of(shards, keys.paragraphs_key(name)).tag == tag]
        events = [EdgeEvent("add", "C1", "C2", keys.sentence_id(name, tag, 0), 1.0, 2019) for name in mine]
        ClusterGraph(client.execute_command, tag).apply(events)


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "after the functions began"])
def test_it_is_taken_over(servers: RedisClusterServers, begun: bool) -> None:
    with servers.client() as raw, servers.client(decode_responses=True) as client:
        with WorkerProcess(servers):
            pipeline.upload(client)
            pipeline.store_table(client, TABLE)
            for name in NAMES:
                pipeline.write(client, name, SENTENCE, year=2019)
            pipeline.settle(client)
            wanted, graph = pipeline.keyspace(servers), pipeline.graph(client)
            for node in client.get_primaries():
                for row in client.execute_command("KM.REGISTRATIONS", target_nodes=node):
                    client.execute_command("KM.UNREGISTER", row[0], target_nodes=node)
        as_before(raw)
        assert pipeline.keyspace(servers) != wanted
        with WorkerProcess(servers):
            pipeline.upload(client)
            if begun:
                pipeline.settle(client)
            done = pipeline.cli(servers, "migrate")
            assert done.returncode == 0, done.stderr
            assert f"{len(NAMES)} articles taken over" in done.stdout
            pipeline.settle(client)
            assert pipeline.graph(client) == graph
            assert pipeline.keyspace(servers) == wanted
            assert "0 articles taken over, 0 keys" in pipeline.cli(servers, "migrate").stdout
