"""The replies of /search and /edge: what the concept graph holds, with names, titles and sentences."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from keymiss.api.articles.titles import Articles, as_text
from keymiss.api.graph.concept_names import Concepts
from keymiss.api.graph.link_members import link_members
from keymiss.api.http.problems import AllLate, NoShardAnswered, NoSuchConcept, NoSuchEdge
from keymiss.cluster.shard_map import ShardMap
from keymiss.graph.pages import MAX_CONCEPTS, Carrier, EdgePage, GraphAway, GraphReader
from keymiss.graph.years import Years
from keymiss.keys import SENTENCE_PREFIX


class Explorer:
    """Looks concepts and links up. ``time_limit_s`` holds for the sentences and titles of one reply; the
    graph has a limit of its own."""

    def __init__(
        self,
        shards: ShardMap,
        graph: GraphReader,
        concepts: Concepts,
        articles: Articles,
        time_limit_s: float,
    ) -> None:
        self._shards = shards
        self._graph = graph
        self._concepts = concepts
        self._articles = articles
        self._time_limit_s = time_limit_s

    async def search(
        self, text: str, years: Years | None, offset: int, limit: int, excluded: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The reply of /search, as if there were no `excluded` concepts. Raises NoShardAnswered, AllLate."""
        start_s = time.perf_counter()
        without = frozenset(excluded)
        mentioned = [each for each in self._concepts.mentioned(text) if each.id not in without][:MAX_CONCEPTS]
        try:
            page = await self._graph.links([each.id for each in mentioned], years, offset, limit, without)
        except GraphAway as error:
            raise _problem(error) from None
        nodes = sorted(page.nodes.items(), key=lambda node: (-node[1], node[0]))
        return {
            "search": text,
            "concepts": [{"id": each.id, "name": each.name} for each in mentioned],
            "nodes": [self._node(concept, rank) for concept, rank in nodes],
            "links": [link_members(link) for link in page.links],
            "years": list(page.years),
            "total": page.total,
            "limit": limit,
            "offset": offset,
            "excluded": excluded,
            "missing": list(page.missing),
            "took_ms": _ms_since(start_s),
        }

    async def edge(
        self, source: str, target: str, years: Years | None, offset: int, limit: int
    ) -> dict[str, Any]:
        """The reply of /edge. Raises NoSuchConcept, NoSuchEdge, NoShardAnswered, AllLate."""
        start_s = time.perf_counter()
        try:
            page = await self._graph.edge(source, target, years, offset, limit)
        except GraphAway as error:
            raise _problem(error) from None
        if not page.exists:
            self._refuse(source, target, page)
        return {
            "source": self._node(source, page.nodes.get(source, 0)),
            "target": self._node(target, page.nodes.get(target, 0)),
            "rank": page.rank,
            "first_year": page.first_year,
            "years": {str(year): count for year, count in page.years.items()},
            "sentences": await self._sentences(page.sentences),
            "total": page.total,
            "limit": limit,
            "offset": offset,
            "missing": list(page.missing),
            "took_ms": _ms_since(start_s),
        }

    def _refuse(self, source: str, target: str, page: EdgePage) -> None:
        """There is no such edge, or the shards that hold it did not answer."""
        if page.missing:
            raise NoShardAnswered(
                f"no shard that answered has the link; no answer from: {', '.join(page.missing)}",
                missing=list(page.missing),
            )
        unknown = [
            each for each in (source, target) if self._concepts.loaded and not self._concepts.knows(each)
        ]
        if unknown:
            raise NoSuchConcept(f"the concept table has no {' and no '.join(unknown)}")
        raise NoSuchEdge(f"no sentence mentions both {source} and {target}")

    def _node(self, concept: str, rank: int) -> dict[str, Any]:
        return {"id": concept, "name": self._concepts.name(concept), "rank": rank}

    async def _sentences(self, carriers: Sequence[Carrier]) -> list[dict[str, Any]]:
        by_hash: dict[str, list[str]] = {}
        for each in carriers:
            name, idx = _parts(each)
            by_hash.setdefault(name, []).append(idx)
        articles = {name: name.rpartition(":{")[0] for name in by_hash}
        facts, texts = await asyncio.gather(
            self._articles.get(articles.values(), self._time_limit_s),
            asyncio.gather(*(self._texts(name, wanted) for name, wanted in by_hash.items())),
        )
        known = dict(zip(by_hash, texts, strict=True))
        shown = []
        for each in carriers:
            name, idx = _parts(each)
            article = articles[name]
            shown.append(
                {
                    "sentence": known[name].get(idx),
                    "sentencekey": f"{SENTENCE_PREFIX}{each.sentencekey}",
                    "article": article,
                    "title": facts[article].title,
                    "year": each.year if each.year is not None else facts[article].year,
                    "score": each.score,
                    "shard": self._shards.name_of_shard(f"{SENTENCE_PREFIX}{name}", ""),
                }
            )
        return shown

    async def _texts(self, name: str, wanted: Sequence[str]) -> dict[str, str | None]:
        """idx -> sentence, of the hash ``sentence:<name>``; empty when it does not come in time."""
        key = f"{SENTENCE_PREFIX}{name}"
        try:
            async with asyncio.timeout(self._time_limit_s):
                texts = await self._shards.execute(key, "HMGET", key, *wanted)
        except (RedisError, OSError, TimeoutError):
            return {}
        return dict(zip(wanted, map(as_text, texts), strict=True))


def _parts(carrier: Carrier) -> tuple[str, str]:
    """``<article>:{tag}`` and the idx."""
    name, _, idx = carrier.sentencekey.rpartition(":")
    return name, idx


def _problem(error: GraphAway) -> NoShardAnswered | AllLate:
    kind = AllLate if error.late else NoShardAnswered
    return kind(str(error), missing=list(error.missing))


def _ms_since(start_s: float) -> float:
    return round((time.perf_counter() - start_s) * 1000, 2)
