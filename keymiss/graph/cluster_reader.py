"""Reads the concept graph from the cluster: every shard is asked at once for its parts of the graph
(`keymiss.keys`), and what they hold is added up.

A shard that fails, or does not answer in time, is missing from then on, so that all numbers of a reply
are about the same shards. A slot that is being moved at this moment counts as failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, RedisError

from keymiss.cluster.shard_map import ShardMap
from keymiss.cluster.topology import Shard
from keymiss.graph.changes import GraphChanges
from keymiss.graph.events import carrier_of
from keymiss.graph.pages import (
    MAX_NEIGHBOURS,
    Carrier,
    GraphAway,
    Histogram,
    LinkedSentences,
    PagedReader,
    Pair,
    Request,
)
from keymiss.graph.reading_scripts import CARRIERS_OF_YEARS, NEIGHBOURS_OF_YEARS
from keymiss.graph.years import Years
from keymiss.keys import graph_edge_key, graph_links_key, graph_nodes_key, graph_years_key

log = logging.getLogger(__name__)

MAX_CARRIERS_LOOKED_AT = 12_000
"""Sentences of one edge, best first, that a shard looks at for those of some years: about 11 ms of work."""

ANSWERS_KEPT, SENTENCES_KEPT = 256, 1000
"""Of `sentences_for`: so many of at most so many sentences, of some hundred bytes each."""

Command = tuple[str | bytes | int, ...]


class ClusterGraphReader(PagedReader):
    """See `keymiss.graph.pages.GraphReader`; what may be missing is a shard, named by its tag."""

    def __init__(self, shards: ShardMap, time_limit_s: float) -> None:
        super().__init__(time_limit_s)
        self._shards = shards
        self._changes = GraphChanges(shards.credentials)
        self._kept: dict[Hashable, LinkedSentences] = {}
        self._kept_of: Hashable = None  # the version

    async def close(self) -> None:
        """Ends listening to changes; all other connections are the shard map's."""
        await self._changes.stop()

    async def sentences_for(
        self,
        ids: Sequence[str],
        per_edge: int,
        time_limit_s: float | None = None,
        years: Years | None = None,
    ) -> LinkedSentences:
        """See `GraphReader`. What was read is given again while nothing of the graph has changed, even if a
        shard would not answer now."""
        wanted = (tuple(ids), per_edge, years)
        version = self._version()
        if version is not None and version == self._kept_of and wanted in self._kept:
            return self._kept[wanted]
        found = await super().sentences_for(ids, per_edge, time_limit_s, years)
        if version is not None and version == self._version():
            self._keep(version, wanted, found)
        return found

    def _version(self) -> Hashable:
        """Also other slots are another version: their links were not read."""
        shards = self._shards.shards
        self._changes.listen(shard.master for shard in shards)
        version = self._changes.version
        return None if version is None else (shards, version)

    def _keep(self, version: Hashable, wanted: Hashable, found: LinkedSentences) -> None:
        if version != self._kept_of or len(self._kept) >= ANSWERS_KEPT:
            self._kept.clear()
        self._kept_of = version
        if found.links and not found.missing and len(found.scores) <= SENTENCES_KEPT:
            self._kept[wanted] = found

    def _check(self, request: Request) -> None:
        if all(shard.tag in request.missing for shard in self._shards.shards):
            raise GraphAway(sorted(request.missing), any(request.missing.values()))

    async def _neighbours(
        self, request: Request, ids: Sequence[str], years: Years | None
    ) -> Mapping[Pair, int]:
        bounds = _bounds(years)

        def commands(tag: str) -> list[Command]:
            if years is None:
                return [
                    ("ZREVRANGE", graph_links_key(tag, each), 0, MAX_NEIGHBOURS - 1, "WITHSCORES")
                    for each in ids
                ]
            prefix = graph_years_key(tag, "", "")[:-1]
            script = ("EVAL_RO", NEIGHBOURS_OF_YEARS, 1)
            return [
                (*script, graph_links_key(tag, each), prefix, each, MAX_NEIGHBOURS, *bounds) for each in ids
            ]

        ranks: Counter[Pair] = Counter()
        for _, replies in await self._ask_all(request, commands):
            of_shard: dict[Pair, int] = {}  # an edge between two of the concepts comes from both its ends
            for concept, flat in zip(ids, replies, strict=True):
                for neighbour, rank in zip(flat[::2], flat[1::2], strict=True):
                    other = neighbour.decode()
                    pair = (concept, other) if concept < other else (other, concept)
                    of_shard[pair] = int(rank)
            ranks.update(of_shard)
        return ranks

    async def _histograms(self, request: Request, pairs: Sequence[Pair]) -> Mapping[Pair, Histogram]:
        found: dict[Pair, Counter[int | None]] = {}

        def commands(tag: str) -> list[Command]:
            return [("HGETALL", graph_years_key(tag, *pair)) for pair in pairs]

        for tag, replies in await self._ask_all(request, commands):
            for pair, counts in zip(pairs, replies, strict=True):
                if counts:
                    request.edges.setdefault(tag, set()).add(pair)
                for year, count in zip(counts[::2], counts[1::2], strict=True):
                    found.setdefault(pair, Counter())[int(year) if year else None] += int(count)
        return found

    async def _node_ranks(self, request: Request, ids: Sequence[str]) -> Mapping[str, int]:
        def commands(tag: str) -> list[Command]:
            return [("ZMSCORE", graph_nodes_key(tag), *ids)] if ids else []

        ranks: Counter[str] = Counter()
        for _, replies in await self._ask_all(request, commands):
            for concept, rank in zip(ids, replies[0], strict=True):
                ranks[concept] += int(float(rank or 0))
        return ranks

    async def _carriers(
        self, request: Request, pairs: Sequence[Pair], years: Years | None, count: int
    ) -> Mapping[Pair, Sequence[Carrier]]:
        """Only parts that gave years of an edge have carriers of it."""
        bounds = _bounds(years)

        def there(tag: str) -> list[Pair]:
            return [pair for pair in pairs if pair in request.edges.get(tag, ())]

        def commands(tag: str) -> list[Command]:
            edges = [graph_edge_key(tag, *pair) for pair in there(tag)]
            if years is None:
                return [("ZREVRANGE", edge, 0, count - 1, "WITHSCORES") for edge in edges]
            script = ("EVAL_RO", CARRIERS_OF_YEARS, 1)
            return [(*script, edge, count, MAX_CARRIERS_LOOKED_AT, *bounds) for edge in edges]

        found: dict[Pair, list[Carrier]] = {}
        for tag, replies in await self._ask_all(request, commands):
            for pair, flat in zip(there(tag), replies, strict=True):
                for member, score in zip(flat[::2], flat[1::2], strict=True):
                    sentence, year = carrier_of(member.decode(errors="surrogateescape"))
                    found.setdefault(pair, []).append(Carrier(sentence, float(score), year))
        return found

    async def _ask_all(
        self, request: Request, commands: Callable[[str], list[Command]]
    ) -> list[tuple[str, list[Any]]]:
        """The tag of each part, and the replies to its commands; of the shards not missing yet."""
        there = (shard for shard in self._shards.shards if shard.tag not in request.missing)
        wanted = [(shard, [commands(part) for part in shard.parts]) for shard in there]
        asked = [(shard, some) for shard, some in wanted if any(some)]
        ends = request.round_ends()
        replies = await asyncio.gather(*(self._ask(request, ends, *each) for each in asked))
        return [
            of_part
            for (shard, _), of_shard in zip(asked, replies, strict=True)
            for of_part in zip(shard.parts, of_shard, strict=False)  # nothing of one that is missing
        ]

    async def _ask(
        self, request: Request, ends: float, shard: Shard, commands: Sequence[Sequence[Command]]
    ) -> list[list[Any]]:
        """Of each part. Empty: the shard is missing from now on."""
        try:
            async with asyncio.timeout_at(ends):
                return await self._run(shard, commands)
        except TimeoutError:
            request.missing[shard.tag] = True
        except (RedisError, OSError) as error:
            log.warning("graph of shard {%s}: %s", shard.tag, error)
            request.missing[shard.tag] = False
        return []

    async def _run(self, shard: Shard, commands: Sequence[Sequence[Command]]) -> list[list[Any]]:
        """Follows a failover, and slots that have moved, once."""
        try:
            return await self._send(shard, commands)
        except (MovedError, RedisConnectionError, OSError):
            await self._shards.refresh()
            owners = [self._shards.shard_of(graph_nodes_key(part)) for part in shard.parts]
            again = [self._send(owner, [each]) for owner, each in zip(owners, commands, strict=True)]
            return [reply for (reply,) in await asyncio.gather(*again)]

    async def _send(self, shard: Shard, commands: Sequence[Sequence[Command]]) -> list[list[Any]]:
        sent = [command for each in commands for command in each]
        if not sent:
            return [[] for _ in commands]
        replies = iter(await self._shards.replies_at(shard.master, sent))
        return [list(islice(replies, len(each))) for each in commands]


def _bounds(years: Years | None) -> list[int]:
    return [bound for low_high in years.ranges for bound in low_high] if years else []
