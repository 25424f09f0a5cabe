"""What a concept graph must do, whichever store holds it: the tests of both stores are these.

A test file makes a subclass of `GraphCases` and a fixture `store`. What is right is what `Model`, a few
dicts, says.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import combinations
from typing import Protocol

import pytest

from keymiss.graph.events import ADD, DEL, EdgeEvent
from keymiss.graph.graph_store import Applied, GraphStore
from keymiss.graph.pages import (
    MAX_NEIGHBOURS,
    Carrier,
    GraphReader,
    Link,
    LinkedSentences,
    LinksBetween,
)
from keymiss.graph.years import Years

IDS = ["B", "B-1", "KC.2", "KC0001", "a", "a-b", "z9"]
"""Orders that a locale would change: capitals, a hyphen, a dot."""
YEARS = [None, 2018, 2019, 2020, 2021]


class Store(Protocol):
    """Two writers, as two shards have, and readers of what they write."""

    tags: Sequence[str]
    writers: Sequence[GraphStore]

    def reader(self) -> AbstractAsyncContextManager[GraphReader]: ...

    def is_empty(self) -> bool: ...


class Model:
    """The graph as dicts: edge -> (sentence, year) -> score."""

    def __init__(self) -> None:
        self.edges: dict[tuple[str, str], dict[tuple[str, int | None], float]] = {}

    def apply(self, events: Sequence[EdgeEvent]) -> None:
        for each in events:
            carriers = self.edges.setdefault((each.source, each.target), {})
            if each.op == ADD:
                carriers[each.sentence, each.year] = each.score
            else:
                carriers.pop((each.sentence, each.year), None)
            if not carriers:
                del self.edges[each.source, each.target]

    def carriers(self, pair: tuple[str, str], years: Years | None = None) -> list[Carrier]:
        found = [
            Carrier(sentence, score, year)
            for (sentence, year), score in self.edges.get(pair, {}).items()
            if years is None or year in years
        ]
        return sorted(found, key=lambda c: (c.score, c.sentencekey, c.year or 0), reverse=True)

    def link(self, pair: tuple[str, str], years: Years | None = None) -> Link:
        found = self.carriers(pair, years)
        first = min((c.year for c in found if c.year is not None), default=None)
        return Link(*pair, len(found), first)

    def links(self, ids: Sequence[str], years: Years | None = None) -> list[Link]:
        touched = [self.link(pair, years) for pair in self.edges if set(pair) & set(ids)]
        inner = {tuple(sorted(pair)) for pair in combinations(ids, 2)}
        order = sorted(
            touched, key=lambda k: ((k.source, k.target) not in inner, -k.rank, k.source, k.target)
        )
        return [link for link in order if link.rank]

    def histogram(self, pair: tuple[str, str]) -> dict[int, int]:
        counts = Counter(year for _, year in self.edges.get(pair, {}) if year is not None)
        return dict(sorted(counts.items()))

    def node_rank(self, concept: str) -> int:
        return sum(len(carriers) for pair, carriers in self.edges.items() if concept in pair)


def add(source: str, target: str, sentence: str, score: float = 1.0, year: int | None = None) -> EdgeEvent:
    return EdgeEvent(ADD, source, target, sentence, score, year)


def removal(event: EdgeEvent) -> EdgeEvent:
    return EdgeEvent(DEL, event.source, event.target, event.sentence, event.score, event.year)


def random_events(rng: random.Random, tag: str, count: int) -> list[EdgeEvent]:
    """As no pipeline would write them: removals of what is not there, additions of what is."""
    return [
        EdgeEvent(
            rng.choice((ADD, ADD, DEL)),
            *sorted(rng.sample(IDS, 2)),
            f"An article {rng.randint(2000, 2004)}:{{{tag}}}:{rng.randint(0, 3)}",
            rng.choice((0.125, 0.25, 0.5, 1.0, -2.5, 1e-7)),
            rng.choice(YEARS),
        )
        for _ in range(count)
    ]


def apply_to_both(store: Store, model: Model, per_shard: Sequence[Sequence[EdgeEvent]]) -> None:
    for writer, events in zip(store.writers, per_shard, strict=True):
        writer.apply(events)
        model.apply(events)


async def assert_reads_as(store: Store, model: Model, years: Years | None = None) -> None:
    """Everything a reader can tell is as the model says."""
    async with store.reader() as reader:
        for ids in (IDS, IDS[:1], [IDS[3], IDS[0]]):
            page = await reader.links(ids, years, 0, 1000)
            expected = model.links(ids, years)
            assert list(page.links) == expected
            assert page.total == len(expected)
            assert page.missing == ()
            ends = {end for link in expected for end in (link.source, link.target)}
            assert dict(page.nodes) == {end: model.node_rank(end) for end in ends}
            known = {year for link in expected for year in model.histogram((link.source, link.target))}
            assert page.years == tuple(sorted(known))
        for pair in combinations(sorted(IDS), 2):
            edge = await reader.edge(pair[1], pair[0], years, 0, 1000)
            link = model.link(pair, years)
            assert (edge.rank, edge.total, edge.first_year) == (link.rank, link.rank, link.first_year)
            assert edge.years == model.histogram(pair)
            assert list(edge.sentences) == model.carriers(pair, years)
            assert edge.exists == (pair in model.edges)


class GraphCases:
    """The tests; `store` comes from the test file."""

    @pytest.mark.parametrize("seed", range(6))
    async def test_any_events_end_as_the_model_says(self, store: Store, seed: int) -> None:
        rng, model = random.Random(seed), Model()
        for _ in range(rng.randint(1, 6)):
            apply_to_both(store, model, [random_events(rng, tag, rng.randint(0, 150)) for tag in store.tags])
        await assert_reads_as(store, model)
        for text in ("2019", "2018,2020-2021", "1999"):
            await assert_reads_as(store, model, Years.parse_text(text))
        left = [
            EdgeEvent(DEL, *pair, sentence, 0.0, year)
            for pair, carriers in model.edges.items()
            for sentence, year in carriers
        ]
        for tag, writer in zip(store.tags, store.writers, strict=True):
            writer.apply([each for each in left if f"{{{tag}}}" in each.sentence])
        assert store.is_empty()

    @pytest.mark.parametrize("seed", range(6))
    async def test_what_comes_again_after_a_crash_changes_nothing(self, store: Store, seed: int) -> None:
        """Entries are given out again from the last that was acknowledged, on to the newest."""
        rng, model = random.Random(seed), Model()
        events = [random_events(rng, tag, 200) for tag in store.tags]
        for writer, of_shard in zip(store.writers, events, strict=True):
            acknowledged = 0
            while acknowledged < len(of_shard):
                done = rng.randint(acknowledged + 1, len(of_shard))
                writer.apply(of_shard[acknowledged:done])
                acknowledged = rng.randint(acknowledged, done) if rng.random() < 0.7 else done
            model.apply(of_shard)
        await assert_reads_as(store, model)
        for writer, of_shard in zip(store.writers, events, strict=True):
            writer.apply(of_shard[rng.randint(0, 199) :])
        await assert_reads_as(store, model)

    def test_the_same_additions_again_add_nothing(self, store: Store) -> None:
        events = [add("a", "b", f"A:{{x}}:{i}", 0.5, 2020) for i in range(1200)]
        assert store.writers[0].apply(events) == Applied(1200, 0)
        assert store.writers[0].apply(events) == Applied(0, 0)
        assert store.writers[0].apply(map(removal, events)) == Applied(0, 1200)
        assert store.writers[0].apply(map(removal, events)) == Applied(0, 0)
        assert store.is_empty()

    async def test_a_year_that_changed_may_come_again(self, store: Store) -> None:
        """The removal with the old year, given out again, must not take out the sentence with the new one."""
        old, new = add("a", "b", "A:{x}:1", 0.5, 2019), add("a", "b", "A:{x}:1", 0.5, 2020)
        store.writers[0].apply([old])
        for events in ([removal(old), new], [removal(old), new], [old, removal(old), new]):
            store.writers[0].apply(events)
            async with store.reader() as reader:
                page = await reader.edge("a", "b", None, 0, 10)
            assert (page.rank, page.years) == (1, {2020: 1})

    async def test_another_score_replaces_the_old_one(self, store: Store) -> None:
        store.writers[0].apply([add("a", "b", "A:{x}:1", 0.25), add("a", "b", "A:{x}:2", 0.5)])
        assert store.writers[0].apply([add("a", "b", "A:{x}:1", 0.75)]) == Applied(0, 0)
        async with store.reader() as reader:
            page = await reader.edge("a", "b", None, 0, 10)
        assert page.sentences == (Carrier("A:{x}:1", 0.75, None), Carrier("A:{x}:2", 0.5, None))
        assert page.rank == 2

    async def test_pages_follow_each_other(self, store: Store) -> None:
        rng, model = random.Random(7), Model()
        apply_to_both(store, model, [random_events(rng, tag, 300) for tag in store.tags])
        pair = max(model.edges, key=lambda p: len(model.edges[p]))
        years = Years.parse_text("2018-2020")
        async with store.reader() as reader:
            links = [
                link for i in range(0, 30, 4) for link in (await reader.links(IDS[:3], years, i, 4)).links
            ]
            assert links == model.links(IDS[:3], years)
            sentences = []
            for i in range(0, 60, 3):
                page = await reader.edge(*pair, years, i, 3)
                assert page.total == model.link(pair, years).rank
                sentences += page.sentences
            assert sentences == model.carriers(pair, years)

    async def test_an_edge_of_two_concepts_with_too_many_neighbours_is_found(self, store: Store) -> None:
        """It is the weakest of both, so it is beyond what is read of either's neighbours."""
        others = [f"KC{i:04}" for i in range(MAX_NEIGHBOURS + 5)]
        events = [add("AA", "AB", "A:{x}:0", year=2001)]
        for hub in ("AA", "AB"):
            events += [add(hub, other, f"A:{{x}}:{i}", year=2002) for other in others for i in (1, 2)]
        store.writers[0].apply(events)
        async with store.reader() as reader:
            page = await reader.links(["AA", "AB"], None, 0, 3)
            assert page.links[0] == Link("AA", "AB", 1, 2001)
            assert [link.rank for link in page.links[1:]] == [2, 2]
            assert page.total == 2 * MAX_NEIGHBOURS + 1
            page = await reader.links(["AA", "AB"], Years.parse_text("2002"), 0, 3)
            assert [link.rank for link in page.links] == [2, 2, 2]
            assert page.total == 2 * MAX_NEIGHBOURS

    async def test_links_between_and_their_sentences(self, store: Store) -> None:
        first, second = store.tags
        store.writers[0].apply(
            [
                add("a", "b", f"A:{{{first}}}:1", 0.5),
                add("a", "b", f"A:{{{first}}}:2", 0.25),
                add("a", "c", f"A:{{{first}}}:1", 0.5),
                add("c", "d", f"A:{{{first}}}:9", 9.0),
            ]
        )
        store.writers[1].apply([add("a", "b", f"B:{{{second}}}:1", 1.0, 2020)])
        async with store.reader() as reader:
            assert (await reader.links_between(["c", "b", "a", "a"], 10)).links == (
                Link("a", "b", 3, 2020),
                Link("a", "c", 1, None),
            )
            assert (await reader.links_between(["c", "b", "a"], 1)).links == (Link("a", "b", 3, 2020),)
            assert await reader.links_between(["a"], 10) == LinksBetween((), {})
            assert (await reader.sentences_for(["a", "b", "c"], 2)).scores == {
                f"A:{{{first}}}:1": 1.0,
                f"B:{{{second}}}:1": 1.0,
            }
            of_2020 = await reader.sentences_for(["a", "b", "c"], 2, years=Years.parse_text("2020"))
            assert of_2020.scores == {f"B:{{{second}}}:1": 1.0}
            assert await reader.sentences_for(["a", "d"], 2) == LinkedSentences({}, {})

    async def test_a_graph_without_anything(self, store: Store) -> None:
        async with store.reader() as reader:
            page = await reader.links(["a", "b"], None, 0, 10)
            assert (page.links, page.total, page.missing) == ((), 0, ())
            edge = await reader.edge("a", "b", Years.parse_text("2020"), 0, 10)
            assert (edge.exists, edge.rank, edge.sentences) == (False, 0, ())
            assert await reader.links([], None, 0, 10) == page
