"""The concept graph in a FalkorDB or RedisGraph server: the writing side.

Nodes ``(:Concept {id})``, and one relationship for every carrier of an edge:
``(a)-[:LINK {sentence, score, year}]->(b)`` with a.id < b.id. So a rank is a number of relationships,
and MERGE makes every event idempotent. A year that is not known is `NO_YEAR`, since MERGE takes no null.

One graph serves all shards: a sentence's id names its shard. Each query is atomic; a batch is two or
three of them, and what a crash between them leaves is put right when the batch comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from falkordb.helpers import stringify_param_value
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from keymiss.graph.events import ADD, EdgeEvent, chunks, last_of_each
from keymiss.graph.graph_store import Applied
from keymiss.graph.graph_url import GraphUrl

EVENTS_PER_QUERY = 500
NO_YEAR = 0
CONNECT_TIMEOUT_S = 2.0
WRITE_TIMEOUT_S = 60.0
"""The server itself limits reading queries only; this is how long we wait for one that writes."""

_INDEX = "CREATE INDEX FOR (c:Concept) ON (c.id)"
_ADD = """
UNWIND $rows AS row
MERGE (a:Concept {id: row.source})
MERGE (b:Concept {id: row.target})
MERGE (a)-[r:LINK {sentence: row.sentence, year: row.year}]->(b)
SET r.score = row.score
"""
_DEL = """
UNWIND $rows AS row
MATCH (:Concept {id: row.source})-[r:LINK]->(:Concept {id: row.target})
WHERE r.sentence = row.sentence AND r.year = row.year
DELETE r
"""
_SWEEP = """
UNWIND $ids AS id
MATCH (c:Concept {id: id})
WHERE NOT (c)-[:LINK]-()
DELETE c
"""


def with_parameters(query: str, parameters: Mapping[str, Any]) -> str:
    """The query behind its parameters: ``CYPHER name=value ... <query>``, their only way to such a server."""
    given = "".join(f"{name}={stringify_param_value(value)} " for name, value in parameters.items())
    return f"CYPHER {given}{query}" if given else query


class CypherGraph:
    """Writes into one graph of one server. Any number of threads may use it."""

    def __init__(self, url: GraphUrl) -> None:
        self._graph = url.graph
        self._client = Redis(
            **url.client_options(),
            socket_timeout=WRITE_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._indexed = False

    def apply(self, events: Iterable[EdgeEvent]) -> Applied:
        """See `GraphStore`. Of each `EVENTS_PER_QUERY` events only the last of each carrier is sent: it
        decides, and then all that add and all that remove can go together."""
        added = removed = 0
        for chunk in chunks(events, EVENTS_PER_QUERY):
            self._make_index()
            last = last_of_each(chunk)
            adds = [_row(each) for each in last if each.op == ADD]
            dels = [_row(each) for each in last if each.op != ADD]
            if adds:
                added += _statistic(self._query(_ADD, rows=adds), "Relationships created")
            if dels:
                removed += _statistic(self._query(_DEL, rows=dels), "Relationships deleted")
                ids = sorted({str(row[end]) for row in dels for end in ("source", "target")})
                self._query(_SWEEP, ids=ids)
        return Applied(added, removed)

    def close(self) -> None:
        """Closes the connection; a later `apply` opens one again."""
        self._client.close()

    def _make_index(self) -> None:
        """Without it every MERGE looks at all concepts. Another writer may have made it: no error."""
        if self._indexed:
            return
        try:
            self._query(_INDEX)
        except ResponseError as error:
            if "already indexed" not in str(error):
                raise
        self._indexed = True

    def _query(self, query: str, **parameters: Any) -> Any:
        text = with_parameters(query, parameters)
        return self._client.execute_command("GRAPH.QUERY", self._graph, text)


def _row(event: EdgeEvent) -> dict[str, Any]:
    return {
        "source": event.source,
        "target": event.target,
        "sentence": event.sentence,
        "year": NO_YEAR if event.year is None else event.year,
        "score": event.score,
    }


def _statistic(reply: Any, name: str) -> int:
    """A number out of the last part of a reply, lines like ``Relationships created: 3``; 0 if absent."""
    for line in reply[-1]:
        text = line.decode() if isinstance(line, bytes) else str(line)
        if text.startswith(f"{name}: "):
            return int(float(text.removeprefix(f"{name}: ")))
    return 0
