"""Programs and pages written for The Pattern: their requests are taken, the replies have their members."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from keymiss.api.graph.excluded import COOKIE, MAX_CHARACTERS
from keymiss.api.questions.question_in_key import question_in_key
from keymiss.keys import answer_key, span_key
from tests.api.concept_graph import (
    ARTICLES,
    FIRST,
    SECOND,
    TEXTS,
    knowing_concepts,
    shown,
    with_concept_graph,
)
from tests.api.processes import ApiProcess, NginxProcess
from tests.api.test_qasearch_bad_input import assert_problem
from tests.patience import patient
from tests.servers import RedisClusterServers

QUESTION = "How rare is transmission among adults"
PAGE = "http://localhost:4200"
OTHER_PAGE = "https://elsewhere.example"


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    """The graph, and the answers to the question, cached."""
    with with_concept_graph() as running:
        with running.client() as client:
            for tag, article in ARTICLES.items():
                for idx, text in TEXTS.items():
                    answer = text.split()[0]
                    value = {"answer": answer, "score": 0.9, "start": 0, "end": len(answer)}
                    client.set(span_key(article, tag, idx, question_in_key(QUESTION)), json.dumps(value))
                    client.set(answer_key(article, tag, idx, QUESTION), answer)
        yield running


@pytest.fixture(scope="module")
def api(servers: RedisClusterServers) -> Iterator[ApiProcess]:
    with knowing_concepts(servers, {"KEYMISS_API_CORS_ORIGINS": PAGE}) as running:
        yield running


@pytest.fixture
def browser(api: ApiProcess) -> Iterator[httpx.Client]:
    """Keeps cookies, as a browser does."""
    with httpx.Client(base_url=api.url, timeout=patient(30)) as client:
        yield client


def links(client: httpx.Client, **query: Any) -> list[tuple[str, str]]:
    reply = client.get("/search", params={"q": "transmission among adults"} | query)
    assert reply.status_code == 200, reply.text
    return [(each["source"], each["target"]) for each in reply.json()["links"]]


def test_qasearch_has_the_members_of_the_original(
    browser: httpx.Client, servers: RedisClusterServers
) -> None:
    reply = browser.post("/qasearch", json={"search": QUESTION}).json()
    assert (
        reply["links"][0] | {"source": "T1", "target": "T3", "rank": 3, "created_at": "2019"}
        == reply["links"][0]
    )
    assert reply["results"]
    for each in [*reply["results"], *(one for result in reply["results"] for one in result["sources"])]:
        kind, article, tag, idx = each["sentencekey"].split(":")
        assert (kind, each["sentence"]) == ("sentence", TEXTS[idx])
        assert each["title"] == ("On households" if article == ARTICLES[FIRST] else None)
        with servers.client() as client:
            # as the original's server asks for the answer
            key = f"bertqa{tag}_{each['sentencekey'].removeprefix('sentence:')}_{QUESTION}"
            assert client.get(key).decode() == each["answer"]
    for passage in reply["closest"]:
        assert passage["sentencekey"].startswith("sentence:")


def test_search_by_q(browser: httpx.Client) -> None:
    by_q = browser.get("/search", params={"q": " adults "}).json()
    by_search = browser.get("/search", params={"search": "adults"}).json()
    assert by_q | {"took_ms": 0} == by_search | {"took_ms": 0}
    assert [each["created_at"] for each in by_q["links"]] == ["2019", "2019"]
    assert set(by_q["nodes"][0]) == {"id", "name", "rank"}
    assert by_q["limit"] == 300
    assert len(links(browser, limit=400)) == 5


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"q": ""}, "q"),
        ({"q": " "}, "blank"),
        ({"q": "x" * 513}, "512"),
        ({"q": "x", "search": "x"}, "search and q are both there"),
        ({}, "search is missing"),
    ],
)
def test_a_q_that_cannot_be_looked_up(browser: httpx.Client, query: dict[str, str], words: str) -> None:
    assert_problem(browser.get("/search", params=query), 422, words)


def test_the_middle_of_two_years_is_the_first(browser: httpx.Client) -> None:
    """The original's slider sends it."""
    middle = browser.post("/search", json={"search": "adults", "years": [2019.5]}).json()
    first = browser.post("/search", json={"search": "adults", "years": [2019]}).json()
    assert first["links"]
    assert middle | {"took_ms": 0} == first | {"took_ms": 0}
    for wrong in (1e300, -2.5, None):
        assert_problem(browser.post("/search", json={"search": "adults", "years": [wrong]}), 422, "year")


def test_an_edge_as_the_original_asks_for_it(browser: httpx.Client) -> None:
    found = browser.get("/edge/edges:T1:T3").json()
    assert found["years"] == ["2017", "2020"]
    first, second = found["results"]  # one of each article, the better one
    expected = {
        "title": "On households",
        "sentence": TEXTS["1"],
        "sentencekey": shown(FIRST, 1),
        "summary": "TBC",
        "article_id": f"article_id:{ARTICLES[FIRST]}",
    }
    assert first | expected == first
    assert (second["sentencekey"], second["title"]) == (shown(SECOND, 1), None)
    assert (found["rank"], found["total"], found["source"]["name"]) == (3, 3, "transmission")
    assert browser.get("/edge/edges:T3:T1").json()["results"] == found["results"]


@pytest.mark.parametrize(
    ("pair", "status"), [("T1:T77", 404), ("T3:T4", 404), ("T1:T 3", 422), ("T1:{T3}", 422)]
)
def test_an_edge_that_is_not_there(browser: httpx.Client, pair: str, status: int) -> None:
    assert_problem(browser.get(f"/edge/edges:{pair}"), status)


def test_what_a_client_excludes_is_hidden_from_it_alone(browser: httpx.Client, api: ApiProcess) -> None:
    before = links(browser)
    assert {("T1", "T2"), ("T2", "T3")} < set(before)
    said = browser.get("/exclude", params={"id": "T2"})
    assert said.json() == {"message": "T2 is left out", "excluded": ["T2"]}
    assert links(browser) == [pair for pair in before if "T2" not in pair]
    reply = browser.post("/search", json={"search": "children among adults"}).json()
    assert [each["id"] for each in reply["concepts"]] == ["T3"]
    assert "T2" not in [each["id"] for each in reply["nodes"]]
    assert (reply["excluded"], reply["total"]) == (["T2"], 1)
    assert browser.post("/exclude", json={"id": "T9", "withCredentials": True}).json()["excluded"] == [
        "T2",
        "T9",
    ]
    assert browser.post("/exclude", json={"id": "T2"}).json()["excluded"] == ["T2", "T9"]
    assert links(browser) == [pair for pair in before if not {"T2", "T9"} & set(pair)]
    assert links(browser, limit=1, offset=1) == [("T1", "T4")]
    with httpx.Client(base_url=api.url, timeout=patient(30)) as another:
        assert links(another) == before
    assert browser.get("/exclude", params={"id": "T3"}).json()["excluded"] == ["T2", "T9", "T3"]
    answered = browser.post("/qasearch", json={"search": QUESTION}).json()
    assert [each["id"] for each in answered["concepts"]] == ["T1", "T3"]
    assert answered["links"]
    assert browser.delete("/exclude").json() == {"message": "nothing is left out", "excluded": []}
    assert COOKIE not in browser.cookies
    assert links(browser) == before


def test_the_python_client_excludes(api: ApiProcess) -> None:
    with api.client() as client:
        assert client.exclude("T2").excluded == ("T2",)
        found = client.search("transmission among adults")
        assert found.excluded == ("T2",)
        assert "T2" not in {end for link in found.links for end in (link.source, link.target)}
        client.exclude_nothing()
        assert client.search("transmission among adults").excluded == ()


def test_what_cannot_be_excluded(browser: httpx.Client) -> None:
    assert_problem(browser.get("/exclude"), 422, "id")
    assert_problem(browser.get("/exclude", params={"id": "T 2"}), 422, "id")
    assert_problem(browser.post("/exclude", json={}), 422, "id")
    assert_problem(browser.post("/exclude", json={"id": 2}), 422, "id")
    assert_problem(browser.post("/exclude", content=b"{"), 400, '{"id": "..."}')
    assert COOKIE not in browser.cookies


def test_a_cookie_holds_so_many(browser: httpx.Client) -> None:
    full = "_".join(f"C{number:07}" for number in range(MAX_CHARACTERS // 9))
    headers = {"Cookie": f"{COOKIE}={full}"}
    assert_problem(browser.get("/exclude", params={"id": "x" * 60}, headers=headers), 409, "DELETE /exclude")
    assert browser.get("/exclude", params={"id": "C0000001"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "cookie", ["", "_", "T2 T3", "{T2}", "\u00e9".encode().decode("latin-1"), "_" * 9000]
)
def test_a_cookie_that_is_not_ours_excludes_nothing(browser: httpx.Client, cookie: str) -> None:
    reply = browser.get(
        "/search", params={"q": "adults"}, headers={"Cookie": f"{COOKIE}={cookie}".encode("latin-1")}
    )
    assert reply.json()["excluded"] == []


def test_a_page_of_another_site_excludes_nothing(browser: httpx.Client) -> None:
    """An image or a form there makes a browser send this, with the cookie; it says from where."""
    for origin in ({}, {"Origin": OTHER_PAGE}):
        headers = {"Sec-Fetch-Site": "cross-site"} | origin
        assert_problem(browser.get("/exclude?id=T2", headers=headers), 403, "KEYMISS_API_CORS_ORIGINS")
        assert_problem(browser.post("/exclude", content=b'{"id": "T2"}', headers=headers), 403)
        assert_problem(browser.delete("/exclude", headers=headers), 403)
    named = {"Sec-Fetch-Site": "cross-site", "Origin": PAGE}
    assert browser.get("/exclude?id=T2", headers=named).status_code == 200


def test_a_page_of_another_origin_through_nginx(api: ApiProcess) -> None:
    """What a browser does for the original's page, which sends its cookies with every request."""
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    with (
        NginxProcess(api.port) as nginx,
        httpx.Client(base_url=nginx.url, verify=False, timeout=patient(30), headers={"Origin": PAGE}) as page,
    ):
        for path in ("/search", "/qasearch", "/exclude"):
            allowed = page.options(path, headers=preflight)
            assert allowed.status_code == 200, allowed.text
            assert allowed.headers["access-control-allow-origin"] == PAGE
            assert allowed.headers["access-control-allow-credentials"] == "true"
        before = links(page)
        excluded = page.get("/exclude?id=T2")
        assert excluded.headers["access-control-allow-origin"] == PAGE
        assert excluded.headers["access-control-allow-credentials"] == "true"
        cookie = excluded.headers["set-cookie"].lower()
        assert {"httponly", "secure", "samesite=none", "path=/"} <= {
            part.strip() for part in cookie.split(";")
        }
        assert links(page) == [pair for pair in before if "T2" not in pair]
        assert page.get("/edge/edges:T1:T3").json()["results"][0]["sentencekey"] == shown(FIRST, 1)
        assert page.post("/qasearch", json={"search": QUESTION}).json()["results"]
        refused = page.options("/search", headers=preflight | {"Origin": OTHER_PAGE})
        assert_problem(refused, 400, "origin")
        assert "access-control-allow-origin" not in refused.headers
        too_large = page.post("/exclude", content=b" " * 65537)
        assert_problem(too_large, 413, "65536")
