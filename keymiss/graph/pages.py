"""What readers of the graph are given, and how its pages are put together from what a store holds.

A store is asked for small things (neighbours of a concept, years of an edge, ...); sorting, paging
and adding up are the same for every store and stand here.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations
from typing import Protocol

from keymiss.graph.years import Years

MAX_CONCEPTS = 16
"""Concepts whose links are looked for at once; a question that names more is cut to its first."""

MAX_NEIGHBOURS = 1000
"""Neighbours of a concept that are read, best first, from each part of the graph (each shard). A concept
with more shows its best ones only, and `LinksPage.total` counts what was read; the ranks shown are exact."""

MAX_BETWEEN = 32
"""Links between a question's concepts that sentences are looked up for."""

Pair = tuple[str, str]
"""The two ends of an edge, source < target."""

Histogram = Mapping[int | None, int]
"""Year (None: not known) -> number of sentences."""


@dataclass(frozen=True, slots=True)
class Link:
    """An edge: how many sentences carry it, and the first year of one of them; with a filter, of the
    sentences of those years only."""

    source: str
    target: str
    rank: int
    first_year: int | None


@dataclass(frozen=True, slots=True)
class Carrier:
    """A sentence that carries an edge."""

    sentencekey: str
    score: float
    year: int | None


@dataclass(frozen=True, slots=True)
class LinksPage:
    """``nodes``: concept -> rank, of the links shown; ``years``: all years of the links shown, those
    outside the filter too; ``missing``: the parts of the graph that did not answer."""

    links: tuple[Link, ...]
    nodes: Mapping[str, int]
    years: tuple[int, ...]
    total: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EdgePage:
    """One edge. ``rank``, ``first_year``, ``total`` and ``sentences`` follow the filter; ``years``, year
    -> sentences, does not, and ``exists`` is whether any sentence carries the edge."""

    rank: int
    first_year: int | None
    years: Mapping[int, int]
    total: int
    sentences: tuple[Carrier, ...]
    nodes: Mapping[str, int]
    exists: bool
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinksBetween:
    """The links between some concepts, best first. ``missing``: part of the graph that did not answer ->
    whether it was late."""

    links: tuple[Link, ...]
    missing: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class LinkedSentences:
    """Sentence id -> score, best first; ``missing`` as of `LinksBetween`. ``links``: those between the
    concepts, of all years, best first."""

    scores: Mapping[str, float]
    missing: Mapping[str, bool]
    links: tuple[Link, ...] = ()


class GraphAway(ConnectionError):
    """No part of the graph answered. ``late``: because time was up."""

    def __init__(self, missing: Iterable[str], late: bool) -> None:
        self.missing = tuple(missing)
        self.late = late
        super().__init__(
            f"no part of the concept graph answered: {', '.join(self.missing) or 'none is known'}"
        )


class GraphReader(Protocol):
    """Reads a concept graph. Every call ends within its time limit, or the reader's, and raises GraphAway
    when nothing answered; where some parts answered, the result is of those and names the others."""

    async def links(
        self,
        ids: Sequence[str],
        years: Years | None,
        offset: int,
        limit: int,
        without: Set[str] = frozenset(),
    ) -> LinksPage:
        """The links of the concepts: those between two of them first, then those to their neighbours,
        each best first. At most `MAX_CONCEPTS` concepts and `MAX_NEIGHBOURS` neighbours count. Links to the
        concepts `without` are left out."""

    async def edge(self, source: str, target: str, years: Years | None, offset: int, limit: int) -> EdgePage:
        """One edge, whichever of its ends is named first, and its sentences, best first."""

    async def links_between(self, ids: Sequence[str], limit: int) -> LinksBetween:
        """The links between two of the concepts, best first."""

    async def sentences_for(
        self,
        ids: Sequence[str],
        per_edge: int,
        time_limit_s: float | None = None,
        years: Years | None = None,
    ) -> LinkedSentences:
        """The sentences behind the `MAX_BETWEEN` best links between the concepts, ``per_edge`` of each; a
        sentence behind several has the sum of its scores. ``years``: only sentences of these count."""

    async def close(self) -> None:
        """Closes the connections that are the reader's own."""


@dataclass(slots=True)
class Request:
    """One call on its way: its deadline (of the loop's clock) and the parts that failed so far."""

    deadline: float
    missing: dict[str, bool] = field(default_factory=dict)
    """Part -> whether it was late."""
    edges: dict[str, set[Pair]] = field(default_factory=dict)
    """Part -> the edges that it is known to have something of."""

    def round_ends(self) -> float:
        """When the parts asked now are late: half of the time that is left, since a call asks several times
        and a part that is late once is not asked again. The others then still have time to answer."""
        now = asyncio.get_running_loop().time()
        return now + max(0.0, self.deadline - now) / 2


class PagedReader(ABC):
    """Makes the pages. What a store must be able to tell is abstract."""

    def __init__(self, time_limit_s: float) -> None:
        self._time_limit_s = time_limit_s

    @abstractmethod
    async def _neighbours(
        self, request: Request, ids: Sequence[str], years: Years | None
    ) -> Mapping[Pair, int]:
        """Rank of the edges from each concept to its `MAX_NEIGHBOURS` best neighbours."""

    @abstractmethod
    async def _histograms(self, request: Request, pairs: Sequence[Pair]) -> Mapping[Pair, Histogram]:
        """The years of each edge; an edge that does not exist may be left out."""

    @abstractmethod
    async def _node_ranks(self, request: Request, ids: Sequence[str]) -> Mapping[str, int]:
        """The concepts' ranks; 0 or left out for one without edges."""

    @abstractmethod
    async def _carriers(
        self, request: Request, pairs: Sequence[Pair], years: Years | None, count: int
    ) -> Mapping[Pair, Sequence[Carrier]]:
        """At least the ``count`` best carriers of each edge, in any order."""

    @abstractmethod
    def _check(self, request: Request) -> None:
        """Raises GraphAway when every part is missing."""

    def _begin(self, time_limit_s: float | None = None) -> Request:
        limit_s = self._time_limit_s if time_limit_s is None else time_limit_s
        return Request(asyncio.get_running_loop().time() + limit_s)

    async def links(
        self,
        ids: Sequence[str],
        years: Years | None,
        offset: int,
        limit: int,
        without: Set[str] = frozenset(),
    ) -> LinksPage:
        """See `GraphReader`."""
        request = self._begin()
        asked = list(dict.fromkeys(ids))[:MAX_CONCEPTS]
        if not asked:
            return LinksPage((), {}, (), 0, ())
        inner = {_pair(a, b) for a, b in combinations(asked, 2)}
        # a pair of two hubs may be beyond the best neighbours of both, so it is asked for by name
        between = await self._histograms(request, sorted(inner))
        self._check(request)
        ranks = dict(await self._neighbours(request, asked, years))
        self._check(request)
        ranks |= {pair: _rank(found, years) for pair, found in between.items()}
        wanted = (pair for pair, rank in ranks.items() if rank and without.isdisjoint(pair))
        best = sorted(wanted, key=lambda p: (p not in inner, -ranks[p], p))
        shown = best[offset : offset + limit]
        histograms = await self._histograms(request, shown)
        nodes = await self._node_ranks(request, sorted({end for pair in shown for end in pair}))
        self._check(request)
        links = [_link(pair, histograms.get(pair, {}), years) for pair in shown]
        known = sorted({year for each in histograms.values() for year in each if year is not None})
        # an edge that was removed between the first question and the last is not shown
        return LinksPage(
            tuple(link for link in links if link.rank),
            nodes,
            tuple(known),
            len(best),
            tuple(sorted(request.missing)),
        )

    async def edge(self, source: str, target: str, years: Years | None, offset: int, limit: int) -> EdgePage:
        """See `GraphReader`."""
        request = self._begin()
        pair = _pair(source, target)
        histogram = (await self._histograms(request, [pair])).get(pair, {})
        self._check(request)
        nodes = await self._node_ranks(request, pair)
        carriers = (await self._carriers(request, [pair], years, offset + limit)).get(pair, ())
        self._check(request)
        link = _link(pair, histogram, years)
        return EdgePage(
            link.rank,
            link.first_year,
            {year: count for year, count in sorted(_known(histogram).items())},
            link.rank,
            tuple(sorted(carriers, key=_best_first, reverse=True)[offset : offset + limit]),
            nodes,
            bool(histogram),
            tuple(sorted(request.missing)),
        )

    async def links_between(self, ids: Sequence[str], limit: int) -> LinksBetween:
        """See `GraphReader`."""
        request = self._begin()
        between = await self._between(request, ids)
        return LinksBetween(_links_of(between)[:limit], request.missing)

    async def sentences_for(
        self,
        ids: Sequence[str],
        per_edge: int,
        time_limit_s: float | None = None,
        years: Years | None = None,
    ) -> LinkedSentences:
        """See `GraphReader`."""
        request = self._begin(time_limit_s)
        between = await self._between(request, ids)
        links = _links_of(between)
        pairs = [(link.source, link.target) for link in _links_of(between, years)[:MAX_BETWEEN]]
        if not pairs:
            return LinkedSentences({}, request.missing, links)
        found = await self._carriers(request, pairs, years, per_edge)
        self._check(request)
        scores: dict[str, float] = {}
        for pair in pairs:
            for each in sorted(found.get(pair, ()), key=_best_first, reverse=True)[:per_edge]:
                scores[each.sentencekey] = scores.get(each.sentencekey, 0.0) + each.score
        best_first = dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
        return LinkedSentences(best_first, request.missing, links)

    async def _between(self, request: Request, ids: Sequence[str]) -> Mapping[Pair, Histogram]:
        """The years of each edge between two of the concepts."""
        asked = list(dict.fromkeys(ids))[:MAX_CONCEPTS]
        pairs = sorted({_pair(a, b) for a, b in combinations(asked, 2)})
        if not pairs:
            return {}
        found = await self._histograms(request, pairs)
        self._check(request)
        return found


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


def _known(histogram: Histogram) -> dict[int, int]:
    return {year: count for year, count in histogram.items() if year is not None}


def _rank(histogram: Histogram, years: Years | None) -> int:
    return sum(count for year, count in histogram.items() if years is None or year in years)


def _links_of(histograms: Mapping[Pair, Histogram], years: Years | None = None) -> tuple[Link, ...]:
    """Best first, without those that no sentence of the years carries."""
    links = (_link(pair, histogram, years) for pair, histogram in histograms.items())
    carried = (link for link in links if link.rank)
    return tuple(sorted(carried, key=lambda link: (-link.rank, link.source, link.target)))


def _link(pair: Pair, histogram: Histogram, years: Years | None) -> Link:
    first = min((year for year in _known(histogram) if years is None or year in years), default=None)
    return Link(*pair, _rank(histogram, years), first)


def _best_first(carrier: Carrier) -> tuple[float, str, int]:
    """Descending, the order in which the servers give members of equal score too."""
    return carrier.score, carrier.sentencekey, carrier.year or 0
