"""GET and POST /search, GET /edge: concepts, links, sentences; what cannot be asked; shards that are away."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from subprocess import run
from typing import Any, TypeVar

import httpx
import pytest

from keymiss.api.graph.concept_names import Concepts
from keymiss.api.questions.linked_concepts import About, GraphKnowledge, Linked
from keymiss.api.settings import ApiSettings
from keymiss.api.unused import Reason, Signal, Unused
from keymiss.api_shapes.graph import EdgeReply, GraphLink
from keymiss.client import NotFound
from keymiss.cluster.shard_map import ShardMap
from keymiss.corpus.concept_table import Concept, ConceptTable
from keymiss.graph.cluster_reader import ClusterGraphReader
from keymiss.keys import concept_table_key
from tests.api.concept_graph import (
    ARTICLES,
    FIRST,
    SECOND,
    TABLE,
    TEXTS,
    knowing_concepts,
    sentence,
    shown,
    with_concept_graph,
)
from tests.api.processes import ApiProcess, pause, resume
from tests.api.test_qasearch_bad_input import assert_problem
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, wait_until

T = TypeVar("T")


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with with_concept_graph() as running:
        yield running


@pytest.fixture(scope="module")
def api(servers: RedisClusterServers) -> Iterator[ApiProcess]:
    with knowing_concepts(servers) as running:
        yield running


def get(api: ApiProcess, **query: Any) -> httpx.Response:
    return httpx.get(f"{api.url}/search", params=query, timeout=patient(30))


def post(api: ApiProcess, **body: Any) -> httpx.Response:
    return httpx.post(f"{api.url}/search", json=body, timeout=patient(30))


def linked(api: ApiProcess, source: str, target: str, **wanted: Any) -> EdgeReply:
    with api.client() as client:
        return client.edge(source, target, **wanted)


def edge(api: ApiProcess, pair: str, **query: Any) -> httpx.Response:
    return httpx.get(f"{api.url}/edge/{pair}", params=query, timeout=patient(30))


def test_links_of_the_concepts_in_a_question(api: ApiProcess) -> None:
    reply = get(api, search="  Who performs viral transmission among   adults ")
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert found.pop("took_ms") > 0
    assert found == {
        "search": "Who performs viral transmission among adults",
        "concepts": [{"id": "T1", "name": "transmission"}, {"id": "T3", "name": "adult"}],
        "nodes": [
            {"id": "T1", "name": "transmission", "rank": 6},
            {"id": "T3", "name": "adult", "rank": 4},
            {"id": "T2", "name": "child", "rank": 2},
            {"id": "T4", "name": "quarantine", "rank": 1},
            {"id": "T9", "name": "T9", "rank": 1},
        ],
        "links": [
            {"source": "T1", "target": "T3", "rank": 3, "first_year": 2019, "created_at": "2019"},
            {"source": "T1", "target": "T2", "rank": 1, "first_year": 2019, "created_at": "2019"},
            {"source": "T1", "target": "T4", "rank": 1, "first_year": 2021, "created_at": "2021"},
            {"source": "T1", "target": "T9", "rank": 1, "first_year": 2021, "created_at": "2021"},
            {"source": "T2", "target": "T3", "rank": 1, "first_year": 2019, "created_at": "2019"},
        ],
        "years": [2019, 2020, 2021],
        "total": 5,
        "limit": 300,
        "offset": 0,
        "excluded": [],
        "missing": [],
    }


def test_post_gives_the_same_as_get(api: ApiProcess) -> None:
    by_address = get(api, search="adults", limit=1, offset=1, years="2019-2020, 2022").json()
    with api.client() as client:
        by_body = client.search("adults", limit=1, offset=1, years=["2019-2020", 2022])
    assert by_address | {"took_ms": 0} == by_body.model_dump(mode="json") | {"took_ms": 0}
    assert by_body.links == (GraphLink(source="T2", target="T3", rank=1, first_year=2019, created_at="2019"),)
    assert by_address["links"] == [
        {"source": "T2", "target": "T3", "rank": 1, "first_year": 2019, "created_at": "2019"}
    ]
    assert by_address["total"] == 2


def test_years_filter_the_ranks(api: ApiProcess) -> None:
    found = get(api, search="adults", years="2020").json()
    assert found["links"] == [
        {"source": "T1", "target": "T3", "rank": 1, "first_year": 2020, "created_at": "2020"}
    ]
    assert found["years"] == [2019, 2020]
    assert get(api, search="adults", years="1990").json()["links"] == []


def test_a_text_without_a_concept(api: ApiProcess) -> None:
    found = get(api, search="What is the meaning of life").json()
    assert found | {"took_ms": 0} == {
        "search": "What is the meaning of life",
        "concepts": [],
        "nodes": [],
        "links": [],
        "years": [],
        "total": 0,
        "limit": 300,
        "offset": 0,
        "excluded": [],
        "missing": [],
        "took_ms": 0,
    }


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "search"),
        ({"search": ""}, "search"),
        ({"search": " "}, "blank"),
        ({"search": "x" * 513}, "512"),
        ({"search": "x", "limit": 0}, "limit"),
        ({"search": "x", "limit": 401}, "400"),
        ({"search": "x", "offset": -1}, "offset"),
        ({"search": "x", "offset": 10001}, "10000"),
        ({"search": "x", "limit": "many"}, "limit"),
        ({"search": "x", "years": "soon"}, "'soon' is neither a year"),
        ({"search": "x", "years": "2021-2019"}, "later one"),
        ({"search": "x", "years": "2020," * 200}, "years"),
    ],
)
def test_what_cannot_be_looked_up_is_422(api: ApiProcess, query: dict[str, Any], words: str) -> None:
    assert_problem(get(api, **query), 422, words)
    if query.get("years"):
        assert_problem(edge(api, "T1:T3", years=query["years"]), 422)
        query = query | {"years": query["years"].split(",")}
    assert_problem(post(api, **query), 422, *([] if query.get("years") else [words]))


def test_a_body_that_is_no_search(api: ApiProcess) -> None:
    assert_problem(httpx.post(f"{api.url}/search", content=b"{"), 400, "JSON")
    assert_problem(httpx.post(f"{api.url}/search", content=b" " * 65537), 413, "65536")
    assert_problem(post(api, search="x", years=[True]), 422, "years")
    assert_problem(post(api, search="x", years="2020"), 422, "years")


def test_an_edge_and_its_sentences(api: ApiProcess) -> None:
    reply = edge(api, "T1:T3")
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert found["source"] == {"id": "T1", "name": "transmission", "rank": 6}
    assert found["target"] == {"id": "T3", "name": "adult", "rank": 4}
    assert (found["rank"], found["first_year"], found["total"]) == (3, 2019, 3)
    assert found["years"] == {"2019": 1, "2020": 1}
    assert found["missing"] == []
    assert found["sentences"] == [
        {
            "sentence": TEXTS["1"],
            "sentencekey": shown(FIRST, 1),
            "article": ARTICLES[FIRST],
            "title": "On households",
            "year": 2017,  # the article's: the edge knows none
            "score": 1.0,
            "shard": FIRST,
        },
        {
            "sentence": TEXTS["1"],
            "sentencekey": shown(SECOND, 1),
            "article": ARTICLES[SECOND],
            "title": None,
            "year": 2020,
            "score": 0.5,
            "shard": SECOND,
        },
        {
            "sentence": TEXTS["0"],
            "sentencekey": shown(FIRST, 0),
            "article": ARTICLES[FIRST],
            "title": "On households",
            "year": 2019,
            "score": 0.25,
            "shard": FIRST,
        },
    ]


def test_the_ends_of_an_edge_in_any_order(api: ApiProcess) -> None:
    one, other = linked(api, "T1", "T3"), linked(api, "T3", "T1")
    assert (one.source, one.target) == (other.target, other.source)
    assert one.sentences == other.sentences


def test_pages_and_years_of_an_edge(api: ApiProcess) -> None:
    keys = [linked(api, "T1", "T3", limit=1, offset=i).sentences[0].sentencekey for i in range(3)]
    assert keys == [shown(FIRST, 1), shown(SECOND, 1), shown(FIRST, 0)]
    found = linked(api, "T1", "T3", years=2019)
    assert [each.sentencekey for each in found.sentences] == [shown(FIRST, 0)]
    assert (found.rank, found.total, found.years) == (1, 1, {"2019": 1, "2020": 1})
    none = linked(api, "T1", "T3", years="1990")
    assert (none.rank, none.sentences, none.first_year) == (0, (), None)


def test_a_sentence_that_is_gone_is_null(api: ApiProcess) -> None:
    found = linked(api, "T1", "T9")
    assert found.sentences[0].sentence is None
    assert found.target.name == "T9"


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("T3:T4", "no sentence mentions both T3 and T4"),
        ("T1:T1", "no sentence mentions both"),
        ("T1:T77", "the concept table has no T77"),
        ("T76:T77", "the concept table has no T76 and no T77"),
        ("T1", "Not Found"),
    ],
)
def test_what_does_not_exist_is_404(api: ApiProcess, pair: str, words: str) -> None:
    assert_problem(edge(api, pair), 404, words)
    source, colon, target = pair.partition(":")
    if colon:
        with pytest.raises(NotFound, match=words):
            linked(api, source, target)


@pytest.mark.parametrize("pair", ["T1:T 3", "T1:{T3}", "T1:" + "x" * 65, "a:b:c"])
def test_what_can_be_no_id_is_422(api: ApiProcess, pair: str) -> None:
    assert_problem(edge(api, pair), 422)


def test_a_shard_that_does_not_answer_is_named(api: ApiProcess, servers: RedisClusterServers) -> None:
    def with_one_paused(ask: Callable[[], T]) -> T:
        pause(servers.masters[1])
        try:
            return ask()
        finally:
            resume(servers.masters[1])
            servers.wait_ok()

    found = with_one_paused(lambda: get(api, search="transmission among adults")).json()
    with api.client() as client:
        of_edge = with_one_paused(lambda: client.edge("T1", "T3"))
    absent = with_one_paused(lambda: edge(api, "T1:T4"))
    assert found["missing"] == [SECOND]
    assert found["links"][0] == {
        "source": "T1",
        "target": "T3",
        "rank": 2,
        "first_year": 2019,
        "created_at": "2019",
    }
    assert of_edge.missing == (SECOND,)
    assert [each.shard for each in of_edge.sentences] == [FIRST, FIRST]
    assert_problem(absent, 503, SECOND)


def test_no_shard_answers(api: ApiProcess, servers: RedisClusterServers) -> None:
    for server in servers.masters:
        pause(server)
    try:
        found, of_edge = get(api, search="adults"), edge(api, "T1:T3")
    finally:
        for server in servers.masters:
            resume(server)
    for reply in (found, of_edge):
        assert_problem(reply, 504)
        assert reply.json()["missing"] == sorted((FIRST, SECOND))


def test_the_concept_table_is_followed(api: ApiProcess, servers: RedisClusterServers) -> None:
    """Replaced, broken, removed, and there again."""
    keys = [concept_table_key(tag) for tag in (FIRST, SECOND)]
    other = ConceptTable([Concept("T3", "grown-up", ("adult",))])

    def concepts() -> Any:
        return get(api, search="adults").json()["concepts"]

    with servers.client() as client:
        try:
            for key in keys:
                client.hset(key, mapping={"sha256": other.digest, "csv": other.csv_text})
            wait_until(lambda: concepts() == [{"id": "T3", "name": "grown-up"}], 10, "the new table")
            for key in keys:
                client.hset(key, mapping={"sha256": "another", "csv": "no table"})
            wait_until(lambda: "cannot be used" in api.log_text(), 10, "the broken table is seen")
            assert concepts() == [{"id": "T3", "name": "grown-up"}]
            for key in keys:
                client.delete(key)
            wait_until(lambda: concepts() == [], 10, "no table")
            assert edge(api, "T1:T3").json()["source"]["name"] == "T1"
            assert_problem(edge(api, "T1:T77"), 404, "no sentence mentions both")
        finally:
            for key in keys:
                client.hset(key, mapping={"sha256": TABLE.digest, "csv": TABLE.csv_text})
        wait_until(lambda: concepts() == [{"id": "T3", "name": "adult"}], 10, "the first table again")


async def test_what_is_known_of_a_question(servers: RedisClusterServers) -> None:
    nodes = tuple(("127.0.0.1", server.port) for server in servers.masters)
    shards = ShardMap(ApiSettings(nodes=nodes))
    await shards.start()
    concepts = Concepts(shards, poll_s=60)
    knowledge = GraphKnowledge(concepts, ClusterGraphReader(shards, 10), linked_limit_s=10)
    question = "Do children spread it to adults in quarantine"
    try:
        unread = (Unused(Signal.LINKS, Reason.FAILED),)
        assert await knowledge.about(question) == About([], [], unread)
        assert await knowledge.linked(question) == Linked({}, unread, ())
        await concepts.refresh()
        about = await knowledge.about(question)
        named, links = about.concepts, about.links
        assert about.unused == ()
        assert [each["id"] for each in named] == ["T2", "T1", "T3", "T4"]
        assert links[0] == {
            "source": "T1",
            "target": "T3",
            "source_name": "transmission",
            "target_name": "adult",
            "rank": 3,
            "first_year": 2019,
            "created_at": "2019",
        }
        assert [(each["source"], each["target"]) for each in links] == [
            ("T1", "T3"),
            ("T1", "T2"),
            ("T1", "T4"),
            ("T2", "T3"),
        ]
        linked = await knowledge.linked(question)
        assert linked.links is not None
        assert await knowledge.about(question, linked.links) == about
        assert linked.scores == {
            sentence(SECOND, 2): 1.0,
            sentence(FIRST, 1): 1.0,
            sentence(FIRST, 0): 0.75,
            sentence(SECOND, 1): 0.5,
        }
        assert await knowledge.linked("Are children safe") == Linked({}, links=())
    finally:
        await shards.stop()


def test_a_bad_graph_url_is_said_at_the_start() -> None:
    ended = run(
        [sys.executable, "-m", "keymiss.api", "--port", "1"],
        cwd=REPO,
        env={"KEYMISS_GRAPH_URL": "http://:secret@graph"},
        capture_output=True,
        text=True,
        timeout=patient(60),
    )
    assert ended.returncode == 2
    assert "KEYMISS_GRAPH_URL must begin with" in ended.stderr
    assert "secret" not in ended.stderr
