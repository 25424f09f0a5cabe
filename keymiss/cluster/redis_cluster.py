"""The whole cluster through redis-py's own client, for programs that do one thing and end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from redis.client import Redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials, refusal
from keymiss.cluster.tls import Tls, TlsTrouble, look_at, trouble
from keymiss.cluster.topology import Shard, parse_cluster_slots

LOOKED_AT = 3
"""So many nodes are asked whether they speak TLS, when none can be connected to."""


def open_cluster(nodes: Iterable[Address], credentials: Credentials, **options: Any) -> RedisCluster:
    """A client of the cluster that any of the nodes belongs to. Raises what redis-py raises; `refusal` of
    `keymiss.cluster.credentials` says whether the user was refused, or TLS is why."""
    addresses = list(nodes)
    if credentials.tls:  # a node that does not speak it says nothing, for as long as a command may take
        _look_at_one(addresses, credentials.tls)
    startup = [ClusterNode(*address) for address in addresses]
    try:
        return RedisCluster(startup_nodes=startup, protocol=2, **options, **credentials.client_options)
    except (RedisError, RedisClusterException) as error:
        for address in (
            addresses[:LOOKED_AT] if not credentials.tls and not refusal(error, credentials) else ()
        ):
            if why := trouble(RedisConnectionError(), address, None):
                raise TlsTrouble(why) from error
        raise


def _look_at_one(addresses: Sequence[Address], tls: Tls) -> None:
    """Raises the first TlsTrouble when none of them can be connected to."""
    found: TlsTrouble | None = None
    for address in addresses:
        try:
            look_at(address, tls)
            return
        except TlsTrouble as error:
            found = found or error
        except OSError:
            continue  # redis-py says it
    if found:
        raise found


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
