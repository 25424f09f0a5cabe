"""The concept graph in the cluster: all that a graph must do, over two shards that add up, and what only
this store has: keys that vanish, shards that do not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import pytest

from keymiss.api.settings import ApiSettings
from keymiss.cluster.shard_map import ShardMap
from keymiss.graph import choose_writer
from keymiss.graph.cluster_reader import ClusterGraphReader
from keymiss.graph.cluster_writer import ClusterGraph
from keymiss.graph.graph_store import GraphStore
from keymiss.graph.pages import GraphAway, GraphReader, Link, LinkedSentences
from keymiss.graph.reader_choice import choose_reader
from keymiss.graph.years import Years
from keymiss.keys import graph_edge_key, graph_links_key, graph_nodes_key, graph_years_key
from tests.api.processes import pause, resume, shard_tags
from tests.graph_cases import GraphCases, add, removal
from tests.patience import eventually
from tests.servers import RedisClusterServers, RedisServer, wait_until

TIME_LIMIT_S = 20.0


class ClusterStore:
    """The graph of two shards."""

    def __init__(self, servers: RedisClusterServers) -> None:
        self.servers = servers
        self.tags = shard_tags(2)
        self.clients = [server.client() for server in servers.masters]
        self.writers: Sequence[GraphStore] = [
            ClusterGraph(client.execute_command, tag)
            for client, tag in zip(self.clients, self.tags, strict=True)
        ]

    @contextlib.asynccontextmanager
    async def reader(self, time_limit_s: float = TIME_LIMIT_S) -> AsyncIterator[GraphReader]:
        nodes = tuple(("127.0.0.1", server.port) for server in self.servers.masters)
        shards = ShardMap(ApiSettings(nodes=nodes))
        await shards.start()
        reader = choose_reader(None, shards, time_limit_s)
        try:
            yield reader
        finally:
            await reader.close()
            await shards.stop()

    def is_empty(self) -> bool:
        return not any(client.dbsize() for client in self.clients)


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=2, module=False) as running:
        yield running


@pytest.fixture
def store(servers: RedisClusterServers) -> Iterator[ClusterStore]:
    made = ClusterStore(servers)
    for client in made.clients:
        client.flushall()
    yield made
    for client in made.clients:
        client.close()


class TestClusterGraph(GraphCases):
    """Every case of both stores."""


def test_the_keys_are_those_of_the_table(store: ClusterStore) -> None:
    tag, client = store.tags[0], store.clients[0]
    one, two = f"A:{{{tag}}}:1", f"A:{{{tag}}}:2"
    store.writers[0].apply([add("a", "b", one, 0.5, 2020), add("a", "b", two, 0.25), add("b", "c", one, 0.5)])
    edge = client.zrange(graph_edge_key(tag, "a", "b"), 0, -1, withscores=True)
    assert edge == [(two.encode(), 0.25), (f"{one} 2020".encode(), 0.5)]
    assert client.hgetall(graph_years_key(tag, "a", "b")) == {b"2020": b"1", b"": b"1"}
    links = client.zrange(graph_links_key(tag, "b"), 0, -1, withscores=True)
    assert links == [(b"c", 1.0), (b"a", 2.0)]
    nodes = client.zrange(graph_nodes_key(tag), 0, -1, withscores=True)
    assert nodes == [(b"c", 1.0), (b"a", 2.0), (b"b", 3.0)]


def test_what_no_sentence_carries_has_no_key(store: ClusterStore) -> None:
    event, other = add("a", "b", "A:{x}:1", 0.5, 2020), add("a", "c", "A:{x}:2")
    store.writers[0].apply([event, other])
    assert store.clients[0].dbsize() == 2 * 2 + 3 + 1
    store.writers[0].apply([removal(event)])
    assert store.clients[0].dbsize() == 2 + 2 + 1
    store.writers[0].apply([removal(other)])
    assert store.is_empty()


def test_a_server_that_forgot_the_script_is_given_it_again(store: ClusterStore) -> None:
    for i in range(3):
        assert store.writers[0].apply([add("a", "b", f"A:{{x}}:{i}")]).added == 1
        store.clients[0].script_flush()


def test_the_cluster_is_chosen_when_no_url_is_set(
    store: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYMISS_GRAPH_URL", raising=False)
    choose_writer(store.clients[1].execute_command, store.tags[1]).apply([add("a", "b", "A:{x}:1")])
    assert store.clients[1].exists(graph_edge_key(store.tags[1], "a", "b"))


async def test_a_shard_that_does_not_answer_is_named(store: ClusterStore) -> None:
    for writer, tag in zip(store.writers, store.tags, strict=True):
        writer.apply([add("a", "b", f"A:{{{tag}}}:1", 0.5, 2020)])
    async with store.reader(time_limit_s=0.5) as reader:
        assert (await reader.edge("a", "b", None, 0, 10)).rank == 2
        pause(store.servers.masters[1])
        try:
            edge = await reader.edge("a", "b", None, 0, 10)
            page = await reader.links(["a"], None, 0, 10)
            between = await reader.links_between(["a", "b"], 10)
            behind = await reader.sentences_for(["a", "b"], 10, 0.5)
        finally:
            resume(store.servers.masters[1])
        assert (edge.rank, edge.missing) == (1, (store.tags[1],))
        assert [carrier.sentencekey for carrier in edge.sentences] == [f"A:{{{store.tags[0]}}}:1"]
        assert (page.links[0].rank, page.missing) == (1, (store.tags[1],))
        assert (between.links[0].rank, between.missing) == (1, {store.tags[1]: True})
        assert (list(behind.scores), behind.missing) == ([f"A:{{{store.tags[0]}}}:1"], {store.tags[1]: True})


async def test_no_shard_answers(store: ClusterStore) -> None:
    async with store.reader(time_limit_s=0.3) as reader:
        for server in store.servers.masters:
            pause(server)
        try:
            with pytest.raises(GraphAway) as away:
                await reader.links(["a"], None, 0, 10)
        finally:
            for server in store.servers.masters:
                resume(server)
        assert away.value.late
        assert away.value.missing == tuple(sorted(store.tags))


async def test_a_shard_that_cannot_answer_is_named(store: ClusterStore) -> None:
    tag = store.tags[0]
    store.writers[1].apply([add("a", "b", "A:{x}:1")])
    store.clients[0].set(graph_years_key(tag, "a", "b"), "no hash")
    async with store.reader() as reader:
        edge = await reader.edge("a", "b", None, 0, 10)
    assert (edge.rank, edge.missing) == (1, (tag,))


async def test_no_shard_is_known() -> None:
    reader = ClusterGraphReader(ShardMap(ApiSettings()), TIME_LIMIT_S)
    with pytest.raises(GraphAway, match="none is known"):
        await reader.edge("a", "b", None, 0, 10)


async def test_a_single_server_is_one_shard() -> None:
    with RedisServer(module=False) as server, server.client() as client:
        shards = ShardMap(ApiSettings(nodes=(("127.0.0.1", server.port),)))
        await shards.start()
        try:
            ClusterGraph(client.execute_command, shards.shards[0].tag).apply([add("a", "b", "A:{x}:1")])
            assert (await ClusterGraphReader(shards, TIME_LIMIT_S).edge("a", "b", None, 0, 1)).rank == 1
        finally:
            await shards.stop()


def reads(store: ClusterStore) -> int:
    """How often the shards were asked for years of an edge."""
    stats = (client.info("commandstats").get("cmdstat_hgetall", {"calls": 0}) for client in store.clients)
    return sum(each["calls"] for each in stats)


async def kept(store: ClusterStore, reader: GraphReader) -> LinkedSentences:
    """What the reader gives for a and b once it need not ask for it."""
    async with asyncio.timeout(20):
        while True:
            before = reads(store)
            found = await reader.sentences_for(["a", "b"], 10)
            if reads(store) == before:
                return found
            await asyncio.to_thread(wait_until, lambda: listeners(store) == len(store.clients), 20, "heard")


def listeners(store: ClusterStore) -> int:
    return sum(
        each["name"] == "keymiss-graph" and each["sub"] != "0"
        for client in store.clients
        for each in client.client_list()
    )


async def turns() -> None:
    """Of the event loop, as many as a question has before it reads the graph: who changed something has the
    reply after the message to the reader was sent."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_was_read_is_given_again_while_nothing_changes(store: ClusterStore) -> None:
    store.writers[0].apply([add("a", "b", "A:{x}:1", 0.5, 2020)])
    async with store.reader() as reader:
        found = await kept(store, reader)
        assert found.scores == {"A:{x}:1": 0.5}
        before = reads(store)
        assert await reader.sentences_for(["a", "b"], 10) == found
        assert reads(store) == before
        of_2020 = Years.parse_text("2020")
        for ids, per_edge, years in (
            (["a", "c", "b"], 10, None),
            (["a", "b"], 11, None),
            (["a", "b"], 10, of_2020),
        ):
            before = reads(store)
            assert await reader.sentences_for(ids, per_edge, years=years) == found
            assert reads(store) > before


async def test_every_change_is_seen_by_who_asks_next(store: ClusterStore) -> None:
    one, other = store.writers
    first, second = add("a", "b", "A:{x}:1", 0.5, 2020), add("a", "b", "A:{x}:2", 0.25)
    one.apply([first])
    async with store.reader() as reader:

        async def now() -> tuple[dict[str, float], list[Link]]:
            found = await reader.sentences_for(["a", "b"], 10)
            assert not found.missing
            return dict(found.scores), list(found.links)

        def rescored() -> None:
            one.apply([add("a", "b", "A:{x}:1", 0.75, 2020)])

        def another_year() -> None:
            one.apply([removal(first), add("a", "b", "A:{x}:1", 0.75, 2019)])

        def by_hand() -> None:
            store.clients[0].zincrby(graph_edge_key(store.tags[0], "a", "b"), 1, "A:{x}:1 2019")

        for change, scores, rank, year in (
            (lambda: other.apply([second]), {"A:{x}:1": 0.5, "A:{x}:2": 0.25}, 2, 2020),
            (rescored, {"A:{x}:1": 0.75, "A:{x}:2": 0.25}, 2, 2020),
            (another_year, {"A:{x}:1": 0.75, "A:{x}:2": 0.25}, 2, 2019),
            (by_hand, {"A:{x}:1": 1.75, "A:{x}:2": 0.25}, 2, 2019),
            (lambda: other.apply([removal(second)]), {"A:{x}:1": 1.75}, 1, 2019),
        ):
            await kept(store, reader)
            change()
            await turns()
            assert await now() == (scores, [Link("a", "b", rank, year)])
        await kept(store, reader)
        store.clients[0].flushall()

        async def all_gone() -> bool:
            return await now() == ({}, [])

        await eventually(all_gone)  # of this one change the server sends the reply before the message


async def test_what_was_read_is_given_while_a_shard_is_away_until_something_changes(
    store: ClusterStore,
) -> None:
    for writer, tag in zip(store.writers, store.tags, strict=True):
        writer.apply([add("a", "b", f"A:{{{tag}}}:1", 0.5, 2020)])
    async with store.reader(time_limit_s=1) as reader:
        found = await kept(store, reader)
        pause(store.servers.masters[1])
        try:
            assert await reader.sentences_for(["a", "b"], 10) == found
            store.writers[0].apply([add("a", "b", f"A:{{{store.tags[0]}}}:2", 0.5, 2020)])
            await turns()
            assert (await reader.sentences_for(["a", "b"], 10)).missing == {store.tags[1]: True}
            again = await reader.sentences_for(["a", "b"], 10)
            assert again.missing == {store.tags[1]: True}, "what is not whole is not kept"
        finally:
            resume(store.servers.masters[1])
        assert (await kept(store, reader)).links == (Link("a", "b", 3, 2020),)


async def test_what_was_read_of_other_slots_is_not_given(store: ClusterStore) -> None:
    store.writers[0].apply([add("a", "b", "A:{x}:1", 0.5, 2020)])
    async with store.reader() as reader:
        await kept(store, reader)
        shards = reader._shards  # type: ignore[attr-defined]
        whole = shards.shards
        less = tuple(replace(shard, slots=((shard.slots[0][0], shard.slots[0][0]),)) for shard in whole)
        for seen in (less, whole):
            shards.shards = seen
            before = reads(store)
            await reader.sentences_for(["a", "b"], 10)
            assert reads(store) > before


async def test_nothing_is_kept_of_a_shard_that_is_not_heard(store: ClusterStore) -> None:
    store.writers[0].apply([add("a", "b", "A:{x}:1", 0.5, 2020)])
    async with store.reader() as reader:
        await kept(store, reader)
        client = store.clients[0]
        (news,) = (each["id"] for each in client.client_list() if each["name"] == "keymiss-graph")
        client.client_kill_filter(_id=news)
        before = reads(store)

        async def is_read_again() -> bool:
            assert (await reader.sentences_for(["a", "b"], 10)).scores == {"A:{x}:1": 0.5}
            return reads(store) > before

        await eventually(is_read_again)  # when the connection's end has reached the reader
        assert (await kept(store, reader)).scores == {"A:{x}:1": 0.5}, "it is heard again"
