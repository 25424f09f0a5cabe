"""The whole cluster through redis-py's own client, for programs that do one thing and end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from redis.client import Redis
from redis.cluster import ClusterNode, RedisCluster

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.topology import Shard, parse_cluster_slots


def open_cluster(nodes: Iterable[Address], credentials: Credentials, **options: Any) -> RedisCluster:
    """A client of the cluster that any of the nodes belongs to. Raises what redis-py raises; `refusal` of
    `keymiss.cluster.credentials` says whether the user was refused."""
    startup = [ClusterNode(*address) for address in nodes]
    return RedisCluster(startup_nodes=startup, protocol=2, **options, **credentials.login)


def shards_of(client: RedisCluster) -> tuple[Shard, ...]:
    """The shards as they are now, by their lowest slot."""
    node = client.get_default_node()
    # Two words: what redis-py would make of the reply leaves the nodes' ids out.
    reply = client.execute_command("CLUSTER", "SLOTS", target_nodes=RedisCluster.DEFAULT_NODE)
    return parse_cluster_slots(reply, Address(node.host, node.port))


def node_of(client: RedisCluster, shard: Shard) -> ClusterNode:
    """The shard's master as the client's `target_nodes` takes it."""
    node = client.get_node(*shard.master)
    if node is None:  # a failover that the client has not seen
        client.nodes_manager.initialize()
        node = client.get_node(*shard.master)
    return node or ClusterNode(*shard.master)


def masters_of(client: RedisCluster) -> Iterator[tuple[Shard, Redis]]:
    """Each shard, and a client of its master alone."""
    for shard in shards_of(client):
        yield shard, client.get_redis_connection(node_of(client, shard))
