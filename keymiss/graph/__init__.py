"""The concept graph: which concepts are mentioned together, how often, since when, and by which sentences.

Writing side (the worker): `choose_writer`. Reading side (the API): `choose_reader` of
`keymiss.graph.reader_choice`. Both exist twice, in the cluster itself and over a FalkorDB/RedisGraph server,
with one meaning:

* An edge joins two different concepts, source < target, and is carried by sentences. A sentence carries
  it with a score, and with a year or without.
* An edge's rank is the number of sentences that carry it, its first year the least of theirs. A
  concept's rank is the sum of the ranks of its edges.
* What no sentence carries does not exist: no edge of rank 0, no concept without an edge.
"""

from __future__ import annotations

from functools import lru_cache

from keymiss.graph.cluster_writer import ClusterGraph
from keymiss.graph.cypher import CypherGraph
from keymiss.graph.graph_store import Execute, GraphStore
from keymiss.graph.graph_url import GraphUrl, graph_url

__all__ = ["choose_writer"]


def choose_writer(execute: Execute, tag: str, url: GraphUrl | None = None) -> GraphStore:
    """Where edge events go: to the server at ``url``, by default the one that KEYMISS_GRAPH_URL names;
    if that is not set, to the part of the graph with this tag, on whose shard ``execute`` runs commands.

    Cheap, so it may be called for every batch: a server's connections are kept. Raises BadGraphUrl.
    """
    server = url or graph_url()
    return _server(server) if server else ClusterGraph(execute, tag)


@lru_cache(maxsize=4)
def _server(url: GraphUrl) -> CypherGraph:
    return CypherGraph(url)
