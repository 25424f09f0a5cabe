"""/articles: what is written, read, refused and deleted. No functions here: nothing follows from the text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis.cluster import RedisCluster

from keymiss import Client
from keymiss.client import ArticleState, NotFound
from keymiss.keys import (
    article_key,
    article_tag,
    concepts_key,
    paragraphs_key,
    sentence_key,
    slot_of,
    state_key,
    tag_for_slot,
)
from tests.api.processes import ApiProcess, NginxProcess, pause, resume
from tests.patience import patient
from tests.servers import RedisClusterServers, wait_until

KEY = "a key of some length"
ADMIN = {"X-Admin-Key": KEY}
LIMIT_BYTES = 8 << 20


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    args = ("--cluster-require-full-coverage", "no")
    with RedisClusterServers(*args, masters=3) as running:
        yield running


@pytest.fixture(scope="module")
def client(servers: RedisClusterServers) -> Iterator[RedisCluster]:
    with servers.client() as made:
        yield made


@pytest.fixture(scope="module")
def api(servers: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {"KEYMISS_API_ADMIN_KEY": KEY, "KEYMISS_API_TIME_LIMIT_S": str(patient(30))}
    with ApiProcess(servers.addresses, env=env) as running:
        yield running


def article(name: str = "KM1", *paragraphs: str, **metadata: object) -> dict[str, Any]:
    texts = paragraphs or ("One sentence. Two sentences.", "A second paragraph.")
    metadata = {"title": f"Title of {name}", "year": 2020, "month": 3, "day": "14"} | metadata
    return {"paper_id": name, "metadata": metadata, "body_text": [{"text": text} for text in texts]}


@pytest.fixture(scope="module")
def http(api: ApiProcess) -> Iterator[Client]:
    with api.client(KEY) as made:
        yield made


def post(api: ApiProcess, body: object, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{api.url}/articles", content=content, headers=ADMIN if headers is None else headers)


def get(api: ApiProcess, path: str, **params: object) -> httpx.Response:
    return httpx.get(f"{api.url}/articles/{path}", params={k: str(v) for k, v in params.items()})


def delete(api: ApiProcess, path: str) -> httpx.Response:
    return httpx.delete(f"{api.url}/articles/{path}", headers=ADMIN)


def tag_of(name: str) -> str:
    """Of what is made of the article."""
    return article_tag(name)


def shard_of(name: str, masters: int = 3) -> str:
    """The tag of the shard that owns the article's text."""
    bounds = [round(i * 16384 / masters) for i in range(masters)]
    return tag_for_slot(max(low for low in bounds if low <= slot_of(paragraphs_key(name))))


def assert_problem(reply: httpx.Response, status: int, *words: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in reply.json()["detail"]


def process(client: RedisCluster, name: str, sentences: list[str], **state: str) -> None:
    """Writes what the functions on the shard would make of the article's text."""
    tag = tag_of(name)
    text = client.get(paragraphs_key(name))
    state = {"text": hashlib.sha1(text).hexdigest(), "language": "en"} | state
    client.hset(state_key(name, tag), mapping=state)
    if sentences:
        client.hset(sentence_key(name, tag), mapping={str(i): s for i, s in enumerate(sentences)})
        concepts = {str(i): f"2020 KC{i} KC000" for i in range(0, len(sentences), 2)}
        client.hset(concepts_key(name, tag), mapping=concepts | {"1": "2020"})


def test_an_article_is_stored(api: ApiProcess, client: RedisCluster) -> None:
    reply = post(api, article())
    assert reply.status_code == 202, reply.text
    assert reply.json() == {
        "article": "KM1",
        "sentences": None,
        "state": "accepted",
        "replaced": False,
        "notes": [],
        "href": "/articles/KM1",
    }
    assert reply.headers["location"] == "/articles/KM1"
    assert client.get(paragraphs_key("KM1")) == b"One sentence. Two sentences.\n\nA second paragraph."
    stored = client.hgetall(article_key("KM1"))
    assert stored[b"title"] == b"Title of KM1"
    assert (stored[b"year"], stored[b"month"], stored[b"day"]) == (b"2020", b"3", b"14")
    seen = get(api, "KM1").json()
    assert (seen["state"], seen["sentences"], seen["total"]) == ("accepted", [], 0)
    assert (seen["title"], seen["year"], seen["month"], seen["day"]) == ("Title of KM1", 2020, 3, 14)
    assert seen["shard"] == shard_of("KM1")


def test_abstract_authors_journal_and_address(http: Client, client: RedisCluster) -> None:
    authors = [{"first": "Ada", "middle": ["B."], "last": "Example", "suffix": ""}, {"last": "Group"}]
    given = article(
        "KM88.xml", "A paragraph.", authors=authors, journal="Examples", url="https://example.org/8"
    )
    accepted = http.add_article(given | {"abstract": [{"text": "What it is about."}]})
    assert (accepted.article, accepted.href) == ("KM88", "/articles/KM88")
    assert client.get(paragraphs_key("KM88")) == b"What it is about.\n\nA paragraph."
    seen = http.get_article("KM88")
    assert (seen.authors, seen.journal) == (("Ada B. Example", "Group"), "Examples")
    assert (seen.url, seen.source) == ("https://example.org/8", None)
    http.add_article(article("KM88"))
    seen = http.get_article("KM88")
    assert (seen.authors, seen.journal, seen.url) == ((), None, None)


def test_another_of_the_same_name_replaces_it_wholly(http: Client, client: RedisCluster) -> None:
    assert http.add_article(article("KM2")).replaced is False
    again = http.add_article({"paper_id": "KM2", "metadata": {}, "body_text": [{"text": "New text."}]})
    assert again.replaced is True
    assert client.get(paragraphs_key("KM2")) == b"New text."
    assert b"year" not in client.hgetall(article_key("KM2")), "fields of the old one are gone"


def test_a_processed_article_has_its_sentences_in_order(http: Client, client: RedisCluster) -> None:
    http.add_article(article("KM3"))
    sentences = [f"Sentence {i}." for i in range(12)]
    process(client, "KM3", sentences)
    whole = http.get_article("KM3")
    assert whole.state is ArticleState.PROCESSED
    assert (whole.language, whole.skipped, whole.total) == ("en", None, 12)
    assert [one.sentence for one in whole.sentences] == sentences
    assert [one.idx for one in whole.sentences] == list(range(12))
    assert whole.sentences[10].sentencekey == f"sentence:KM3:{{{tag_of('KM3')}}}:10"
    assert [concept.id for concept in whole.sentences[2].concepts] == ["KC2", "KC000"]
    assert whole.sentences[1].concepts == whole.sentences[3].concepts == ()
    page = http.get_article("KM3", limit=3, offset=9)
    assert [one.idx for one in page.sentences] == [9, 10, 11]
    assert (page.total, page.limit, page.offset) == (12, 3, 9)
    assert http.get_article("KM3", offset=12).sentences == ()


@pytest.mark.parametrize("stored", [None, "", "[0, 0", '{"0": 1}', '["0"]'])
def test_the_paragraph_of_each_sentence(http: Client, client: RedisCluster, stored: str | None) -> None:
    """As far as the state knows it: nobody knows that of a sentence that was put there later."""
    http.add_article(article("KM4"))
    process(client, "KM4", ["One.", "Two.", "Three.", "Four."])
    state = state_key("KM4", tag_of("KM4"))
    client.hset(state, "paragraph_of", "[0,0,2]")
    assert [one.paragraph for one in http.get_article("KM4").sentences] == [0, 0, 2, None]
    assert [one.paragraph for one in http.get_article("KM4", offset=2).sentences] == [2, None]
    if stored is None:
        client.hdel(state, "paragraph_of")
    else:
        client.hset(state, "paragraph_of", stored)
    assert [one.paragraph for one in http.get_article("KM4").sentences] == [None] * 4


def test_a_new_text_is_accepted_until_it_is_processed(http: Client, client: RedisCluster) -> None:
    http.add_article(article("KM4"))
    process(client, "KM4", ["Old."])
    http.add_article(article("KM4", "Another text."))
    assert http.get_article("KM4").state is ArticleState.ACCEPTED
    process(client, "KM4", ["Another text."])
    assert http.get_article("KM4").state is ArticleState.PROCESSED


def test_a_skipped_article_says_why(http: Client, client: RedisCluster) -> None:
    http.add_article(article("KM5", "Ein deutscher Satz."))
    process(client, "KM5", [], language="de", skipped="the language is de, not en")
    seen = http.get_article("KM5")
    assert seen.state is ArticleState.SKIPPED
    assert (seen.language, seen.skipped) == ("de", "the language is de, not en")


def test_deleting_takes_text_and_hash_and_shows_what_is_left(
    api: ApiProcess, http: Client, client: RedisCluster
) -> None:
    http.add_article(article("KM6"))
    process(client, "KM6", ["One sentence."])
    gone = delete(api, "KM6")
    assert (gone.status_code, gone.json()) == (202, {"article": "KM6", "state": "deleted"})
    assert client.exists(paragraphs_key("KM6")) == client.exists(article_key("KM6")) == 0
    assert http.get_article("KM6").state is ArticleState.REMOVING
    assert_problem(delete(api, "KM6"), 404, "KM6")
    with pytest.raises(NotFound, match="KM6"):
        http.delete_article("KM6")
    for key in (state_key, sentence_key, concepts_key):
        client.delete(key("KM6", tag_of("KM6")))
    assert_problem(get(api, "KM6"), 404, "KM6")


def test_sentences_without_a_text_are_shown_too(http: Client, client: RedisCluster) -> None:
    client.hset(sentence_key("KM7", tag_of("KM7")), mapping={"0": "By hand.", "x": "no index"})
    seen = http.get_article("KM7")
    assert (seen.state, seen.title, seen.total) == (ArticleState.PROCESSED, None, 1)


def test_names_with_odd_characters(api: ApiProcess, http: Client) -> None:
    name = "10.1000/a:b%c\u00fc?#&"
    reply = http.add_article(article(name))
    seen = httpx.get(api.url + reply.href)
    assert seen.json()["article"] == name
    assert http.get_article(name).article == name
    assert http.delete_article(name).state is ArticleState.DELETED
    assert httpx.get(api.url + reply.href).status_code == 404


@pytest.mark.parametrize("name", ["nothing", "under_score", "br{ace", "nul%00", "%ff", "x" * 5000])
def test_what_is_not_there_is_404(api: ApiProcess, name: str) -> None:
    assert_problem(get(api, name), 404)
    assert_problem(delete(api, name), 404)


@pytest.mark.parametrize("name", ["nothing", "under_score", "br{ace", "nul\0", "x" * 2000, ""])
def test_what_is_not_there_is_an_error(http: Client, name: str) -> None:
    with pytest.raises(NotFound):
        http.get_article(name)
    with pytest.raises(NotFound):
        http.delete_article(name)


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 501}, {"limit": "x"}, {"offset": -1}])
def test_bad_paging_is_422(api: ApiProcess, params: dict[str, object]) -> None:
    reply = get(api, "KM1", **params)
    assert_problem(reply, 422, next(iter(params)))
    assert reply.json()["errors"][0]["field"] == next(iter(params))


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff", 400, "JSON"),
        (b"[" * 100_000, 400, "JSON"),
        ([], 422, "object"),
        ({}, 422, "paper_id"),
        (article("with_underscore"), 422, "paper_id"),
        (article("with blank"), 422, "paper_id"),
        (article(""), 422, "empty"),
        (article("x" * 300), 422, "paper_id"),
        ({"paper_id": "KM8", "body_text": []}, 422, "metadata"),
        ({"paper_id": "KM8", "metadata": {}, "body_text": {}}, 422, "body_text"),
        (article("KM8", ""), 422, "body_text"),
        (article("KM8", "..."), 422, "body_text"),
        (article("KM8", year="soon"), 422, "year"),
        (article("KM8", "word " * 300_000), 422, "limit"),
    ],
)
def test_what_is_no_article_is_refused_and_nothing_is_written(
    api: ApiProcess, client: RedisCluster, body: object, status: int, word: str
) -> None:
    assert_problem(post(api, body), status, word)
    assert client.exists(article_key("KM8")) == client.exists(paragraphs_key("KM8")) == 0


def test_control_characters_become_blanks_and_are_noted(http: Client, client: RedisCluster) -> None:
    reply = http.add_article(article("KM9", "One\x00two\x1fthree."))
    assert reply.notes == ("2 control characters made blanks",)
    assert client.get(paragraphs_key("KM9")) == b"One two three."


def test_eight_mebibytes_at_most(api: ApiProcess) -> None:
    body = json.dumps(article("KM10")).encode()
    assert post(api, body + b" " * (LIMIT_BYTES - len(body))).status_code == 202
    assert_problem(post(api, body + b" " * (LIMIT_BYTES + 1 - len(body))), 413, str(LIMIT_BYTES))


@pytest.mark.parametrize(
    ("headers", "word"),
    [({}, "missing"), ({"X-Admin-Key": ""}, "is wrong"), ({"X-Admin-Key": KEY[:-1]}, "is wrong")],
)
def test_without_the_key_nothing_is_changed(
    api: ApiProcess, client: RedisCluster, headers: dict[str, str], word: str
) -> None:
    post(api, article("KM11"))
    refused = [post(api, article("KM12"), headers), httpx.delete(f"{api.url}/articles/KM11", headers=headers)]
    for reply in refused:
        assert_problem(reply, 401, word)
        assert reply.headers["www-authenticate"] == "APIKey"
    assert client.exists(paragraphs_key("KM11")) == 1
    assert client.exists(paragraphs_key("KM12")) == client.exists(article_key("KM12")) == 0


def test_a_key_that_is_not_ascii_is_a_wrong_key(api: ApiProcess) -> None:
    reply = httpx.delete(
        f"{api.url}/articles/KM1", headers={b"X-Admin-Key": "schl\u00fcssel".encode("latin-1")}
    )
    assert_problem(reply, 401)


def test_without_a_key_in_the_environment_it_says_how_to_set_one(servers: RedisClusterServers) -> None:
    with ApiProcess(servers.addresses) as closed:
        for headers in ({}, ADMIN):
            assert_problem(post(closed, article("KM13"), headers), 403, "KEYMISS_API_ADMIN_KEY")
        assert_problem(httpx.delete(f"{closed.url}/articles/KM1", headers=ADMIN), 403)
        assert get(closed, "KM1").status_code == 200, "reading needs no key"


def test_through_nginx(api: ApiProcess) -> None:
    """Larger than other bodies may be; and one without the key is told so, not that the API is away."""
    with NginxProcess(api.port) as nginx, httpx.Client(base_url=nginx.url, verify=False) as http:
        big = json.dumps(article("KM14", *["A long paragraph of words. " * 4000] * 60)).encode()
        assert 6_000_000 < len(big) < LIMIT_BYTES
        assert http.post("/articles", content=big, headers=ADMIN).status_code == 202
        assert_problem(http.post("/articles", content=big), 401)
        too_big = http.post("/articles", content=b" " * (LIMIT_BYTES + 1), headers=ADMIN)
        assert_problem(too_big, 413, str(LIMIT_BYTES))
        assert http.get("/articles/KM14", params={"limit": 1}).status_code == 200
        assert http.delete("/articles/KM14", headers=ADMIN).status_code == 202


def test_the_key_is_in_no_log(api: ApiProcess) -> None:
    assert "Application startup complete" in api.log_text()  # it is the log that is read here
    assert KEY not in api.log_text()


def test_a_shard_that_does_not_answer_is_504_and_one_that_is_away_503(servers: RedisClusterServers) -> None:
    """Last: it ends a server."""
    with ApiProcess(servers.addresses, env={"KEYMISS_API_TIME_LIMIT_S": "1"}) as api:
        _stop_and_kill_a_shard_of(api, servers)


def _stop_and_kill_a_shard_of(api: ApiProcess, servers: RedisClusterServers) -> None:
    name = next(n for n in (f"KM{i}" for i in range(100, 1000)) if shard_of(n) == tag_for_slot(0))
    assert servers.server_of(paragraphs_key(name)) is servers.masters[0]
    pause(servers.masters[0])
    try:
        assert_problem(get(api, name), 504, "within 1 s")
    finally:
        resume(servers.masters[0])
    servers.wait_ok()
    wait_until(lambda: get(api, name).status_code == 404, 15, "it answers again")
    servers.masters[0].kill()
    reply = wait_until(lambda: (r := get(api, name)).status_code == 503 and r, 15, "503")
    assert_problem(reply, 503, "cannot be reached")
