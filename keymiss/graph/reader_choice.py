"""Chooses the store that the graph is read from."""

from __future__ import annotations

from keymiss.cluster.shard_map import ShardMap
from keymiss.graph.cluster_reader import ClusterGraphReader
from keymiss.graph.cypher_reader import CypherGraphReader
from keymiss.graph.graph_url import GraphUrl
from keymiss.graph.pages import GraphReader


def choose_reader(url: GraphUrl | None, shards: ShardMap, time_limit_s: float) -> GraphReader:
    """The server at ``url`` (see `keymiss.graph.graph_url.graph_url`); None: the cluster's shards.
    ``time_limit_s`` holds for each call."""
    return CypherGraphReader(url, time_limit_s) if url else ClusterGraphReader(shards, time_limit_s)
