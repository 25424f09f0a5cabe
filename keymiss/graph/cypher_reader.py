"""Reads the concept graph from a FalkorDB or RedisGraph server; `keymiss.graph.cypher` says how it is kept.

The server is one part of the graph, so it answers or the call raises GraphAway. It writes floats with 15
digits, so a score may differ in the sixteenth.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from keymiss.graph.cypher import CONNECT_TIMEOUT_S, NO_YEAR, with_parameters
from keymiss.graph.graph_url import GraphUrl
from keymiss.graph.pages import (
    MAX_NEIGHBOURS,
    Carrier,
    GraphAway,
    Histogram,
    PagedReader,
    Pair,
    Request,
)
from keymiss.graph.years import Years

log = logging.getLogger(__name__)

CONNECTIONS = 16

_PART = "graph server"
"""What a client is told; where it is stands in the log only."""

_OF_YEARS = "any(each IN $years WHERE each[0] <= r.year AND r.year <= each[1])"
_NEIGHBOURS = """
MATCH (a:Concept {{id: $id}})-[r:LINK]-(b:Concept) {where}
RETURN b.id, count(r) AS rank ORDER BY rank DESC LIMIT $limit
"""
_HISTOGRAMS = """
UNWIND $pairs AS pair
MATCH (a:Concept {id: pair[0]})-[r:LINK]->(b:Concept {id: pair[1]})
RETURN a.id, b.id, r.year, count(r)
"""
_NODE_RANKS = """
UNWIND $ids AS id
MATCH (a:Concept {id: id})-[r:LINK]-()
RETURN a.id, count(r)
"""
_CARRIERS = """
MATCH (:Concept {{id: $source}})-[r:LINK]->(:Concept {{id: $target}}) {where}
RETURN r.sentence, r.score, r.year ORDER BY r.score DESC, r.sentence DESC, r.year DESC LIMIT $limit
"""


class CypherGraphReader(PagedReader):
    """See `keymiss.graph.pages.GraphReader`."""

    def __init__(self, url: GraphUrl, time_limit_s: float) -> None:
        super().__init__(time_limit_s)
        self._graph = url.graph
        self._address = url.address
        options = url.client_options()
        if options.pop("ssl"):
            options["connection_class"] = SSLConnection
        pool = BlockingConnectionPool(
            **options,
            max_connections=CONNECTIONS,
            timeout=None,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            client_name="keymiss-api",
            retry=Retry(NoBackoff(), 0),
        )
        self._client = Redis.from_pool(pool)

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    def _check(self, request: Request) -> None:
        """A server that does not answer has raised already."""

    async def _neighbours(
        self, request: Request, ids: Sequence[str], years: Years | None
    ) -> Mapping[Pair, int]:
        where, parameters = _filter(years)
        query = _NEIGHBOURS.format(where=where)
        replies = await asyncio.gather(
            *(self._query(request, query, id=each, limit=MAX_NEIGHBOURS, **parameters) for each in ids)
        )
        ranks: dict[Pair, int] = {}
        for concept, rows in zip(ids, replies, strict=True):
            for neighbour, rank in rows:
                other = neighbour.decode()
                ranks[(concept, other) if concept < other else (other, concept)] = rank
        return ranks

    async def _histograms(self, request: Request, pairs: Sequence[Pair]) -> Mapping[Pair, Histogram]:
        if not pairs:
            return {}
        found: dict[Pair, dict[int | None, int]] = {}
        for source, target, year, count in await self._query(request, _HISTOGRAMS, pairs=pairs):
            found.setdefault((source.decode(), target.decode()), {})[_year(year)] = count
        return found

    async def _node_ranks(self, request: Request, ids: Sequence[str]) -> Mapping[str, int]:
        if not ids:
            return {}
        return {each.decode(): rank for each, rank in await self._query(request, _NODE_RANKS, ids=ids)}

    async def _carriers(
        self, request: Request, pairs: Sequence[Pair], years: Years | None, count: int
    ) -> Mapping[Pair, Sequence[Carrier]]:
        where, parameters = _filter(years)
        query = _CARRIERS.format(where=where)
        replies = await asyncio.gather(
            *(
                self._query(request, query, source=source, target=target, limit=count, **parameters)
                for source, target in pairs
            )
        )
        return {
            pair: [Carrier(sentence.decode(), float(score), _year(year)) for sentence, score, year in rows]
            for pair, rows in zip(pairs, replies, strict=True)
        }

    async def _query(self, request: Request, query: str, **parameters: Any) -> list[Any]:
        """The rows. The server gives up when our own limit is over, so that nothing piles up there."""
        text = with_parameters(query, parameters)
        left_ms = max(1, round((request.deadline - asyncio.get_running_loop().time()) * 1000))
        try:
            async with asyncio.timeout_at(request.deadline):
                reply = await self._client.execute_command(
                    "GRAPH.RO_QUERY", self._graph, text, "TIMEOUT", left_ms
                )
        except TimeoutError:
            raise GraphAway([_PART], late=True) from None
        except (RedisError, OSError) as error:
            if _is_empty(error):
                return []
            log.warning("graph at %s: %s", self._address, error)
            raise GraphAway([_PART], late="timed out" in str(error)) from None
        rows: list[Any] = reply[1]
        return rows


def _is_empty(error: Exception) -> bool:
    """A graph into which nothing was written yet does not exist for a reading query."""
    return isinstance(error, ResponseError) and "empty key" in str(error)


def _filter(years: Years | None) -> tuple[str, dict[str, Any]]:
    return (f"WHERE {_OF_YEARS}", {"years": years.ranges}) if years else ("", {})


def _year(number: int) -> int | None:
    return None if number == NO_YEAR else number
