"""Two shards with a small concept graph, and the API in front of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from keymiss.corpus.concept_table import Concept, ConceptTable
from keymiss.graph.cluster_writer import ClusterGraph
from keymiss.keys import article_key, concept_table_key, sentence_id, sentence_key
from tests.api.processes import SILENT_FOR_LONG, ApiProcess, article_with_title_on, shard_tags
from tests.graph_cases import add
from tests.patience import patient, slower
from tests.servers import RedisClusterServers, wait_until

TABLE = ConceptTable(
    [
        Concept("T1", "transmission", ("spread",)),
        Concept("T2", "child", ("children",)),
        Concept("T3", "adult", ()),
        Concept("T4", "quarantine", ()),
        Concept("T5", "pangolin", ()),
    ]
)
TEXTS = {
    "0": "Children spread it to adults.",
    "1": "Transmission among adults is rare.",
    "2": "Quarantine stops the spread.",
}
FIRST, SECOND = shard_tags(2)
ARTICLES = {tag: article_with_title_on(tag, 2) for tag in (FIRST, SECOND)}


def sentence(tag: str, idx: int) -> str:
    return sentence_id(ARTICLES[tag], tag, idx)


def shown(tag: str, idx: int) -> str:
    """The sentence's `sentencekey` in replies."""
    return f"sentence:{sentence(tag, idx)}"


@contextmanager
def with_concept_graph() -> Iterator[RedisClusterServers]:
    """transmission-adult is on both shards, the other links on one each."""
    with RedisClusterServers(*SILENT_FOR_LONG, masters=2) as running:
        with running.client() as client:
            for tag, article in ARTICLES.items():
                client.hset(sentence_key(article, tag), mapping=TEXTS)
                mapping = {"sha256": TABLE.digest, "csv": TABLE.csv_text}
                client.hset(concept_table_key(tag), mapping=mapping)
            client.hset(article_key(ARTICLES[FIRST]), mapping={"title": "On households", "year": 2017})
        events = {
            FIRST: [
                add("T1", "T2", sentence(FIRST, 0), 0.25, 2019),
                add("T1", "T3", sentence(FIRST, 0), 0.25, 2019),
                add("T2", "T3", sentence(FIRST, 0), 0.25, 2019),
                add("T1", "T3", sentence(FIRST, 1), 1.0),
            ],
            SECOND: [
                add("T1", "T3", sentence(SECOND, 1), 0.5, 2020),
                add("T1", "T4", sentence(SECOND, 2), 1.0, 2021),
                add("T1", "T9", sentence(SECOND, 3), 1.0, 2021),
            ],
        }
        for server, tag in zip(running.masters, (FIRST, SECOND), strict=True):
            with server.client() as shard:
                ClusterGraph(shard.execute_command, tag).apply(events[tag])
        yield running


@contextmanager
def knowing_concepts(
    servers: RedisClusterServers, env: Mapping[str, str] | None = None
) -> Iterator[ApiProcess]:
    """The API, which has read sentences and concepts."""
    quick = {"KEYMISS_API_TOPOLOGY_POLL_S": "0.1", "KEYMISS_API_TIME_LIMIT_S": str(slower(1.5))}
    with ApiProcess(servers.addresses, wait_indexed=2, env=quick | dict(env or {})) as running:

        def loaded() -> bool:
            reply = httpx.get(f"{running.url}/search", params={"search": "adult"}, timeout=patient(30))
            return bool(reply.json()["concepts"])

        wait_until(loaded, 20, "the concept table is loaded")
        yield running
