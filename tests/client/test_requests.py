"""What each call sends, and what the settings of a client may be."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from keymiss import AsyncClient, Client
from keymiss.api_shapes import articles, graph, health, questions, watch
from keymiss.client import Answers, ArticleState, PostedArticle
from keymiss.client.connection import tls
from tests.client.both_clients import BOTH, LIVE, Scripted, ok
from tests.patience import patient
from tests.servers import REPO

by_both = pytest.mark.parametrize("call", BOTH)
KEY = "the key of the administrator"
ARTICLE = articles.EXAMPLE_ARTICLE


def example(shape: Any) -> Any:
    return shape.model_config["json_schema_extra"]["examples"][0]


CALLS: list[tuple[tuple[Any, ...], dict[str, Any], str, str, Any, Any]] = [
    (("ask", "Who?"), {}, "POST", "/qasearch", {"search": "Who?", "offset": 0}, questions.Answers),
    (
        ("ask", "Wer \ud83e?"),
        {"limit": 3, "offset": 6},
        "POST",
        "/qasearch",
        {"search": "Wer \ud83e?", "limit": 3, "offset": 6},
        questions.Answers,
    ),
    (
        ("ask", "Who?"),
        {"min_score": 0.0, "years": (2019, None), "articles": ["A", "B"]},
        "POST",
        "/qasearch",
        {"search": "Who?", "offset": 0, "min_score": 0.0, "years": {"from": 2019}, "articles": ["A", "B"]},
        questions.Answers,
    ),
    (
        ("ask", "Who?"),
        {"years": (None, 2021), "articles": "KM1"},
        "POST",
        "/qasearch",
        {"search": "Who?", "offset": 0, "years": {"to": 2021}, "articles": ["KM1"]},
        questions.Answers,
    ),
    (
        ("search", "adults"),
        {"limit": 1, "years": "2019-2021, 2023,"},
        "POST",
        "/search",
        {"search": "adults", "limit": 1, "offset": 0, "years": ["2019-2021", " 2023"]},
        graph.SearchReply,
    ),
    (
        ("search", "adults"),
        {"years": 2020},
        "POST",
        "/search",
        {"search": "adults", "offset": 0, "years": [2020]},
        graph.SearchReply,
    ),
    (("edge", "T1", "T2"), {}, "GET", "/edge/T1:T2?offset=0", None, graph.EdgeReply),
    (
        ("edge", "a/b", "c d"),
        {"limit": 2, "years": ["2019-2021", 2023]},
        "GET",
        "/edge/a%2Fb:c%20d?limit=2&offset=0&years=2019-2021%2C2023",
        None,
        graph.EdgeReply,
    ),
    (("exclude", "T1"), {}, "POST", "/exclude", {"id": "T1"}, graph.Excluded),
    (("exclude_nothing",), {}, "DELETE", "/exclude", None, graph.Excluded),
    (("add_article", ARTICLE), {}, "POST", "/articles", ARTICLE, articles.Accepted),
    (("add_article", json.dumps(ARTICLE).encode()), {}, "POST", "/articles", ARTICLE, articles.Accepted),
    (
        ("add_article", PostedArticle.model_validate(ARTICLE)),
        {},
        "POST",
        "/articles",
        ARTICLE,
        articles.Accepted,
    ),
    (
        ("get_article", "10.1000/a:b%c\u00fc?#"),
        {"limit": 5, "offset": 10},
        "GET",
        "/articles/10.1000%2Fa%3Ab%25c%C3%BC%3F%23?limit=5&offset=10",
        None,
        articles.ArticleReply,
    ),
    (("delete_article", "KM1"), {}, "DELETE", "/articles/KM1", None, articles.Deleted),
    (("live",), {}, "GET", "/livez", None, health.Live),
    (("ready",), {}, "GET", "/readyz", None, health.Ready),
    (("dashboards",), {}, "GET", "/watch/dashboards", None, watch.Dashboards),
    (("dashboard", "a b"), {}, "GET", "/watch/dashboards/a%20b", None, watch.GrafanaDashboard),
    (("panel", "km", 3), {}, "GET", "/watch/dashboards/km/panels/3", None, watch.PanelData),
    (
        ("panel", "km", 3),
        {"range_s": 60},
        "GET",
        "/watch/dashboards/km/panels/3?range_s=60",
        None,
        watch.PanelData,
    ),
]


@by_both
@pytest.mark.parametrize(("arguments", "named", "method", "path", "body", "shape"), CALLS)
def test_every_call(
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    method: str,
    path: str,
    body: Any,
    shape: Any,
) -> None:
    """The reply is the API's own example, with members that nobody knows yet."""
    given = example(shape)
    service = Scripted(ok(given | {"new_member": {"of": "a newer service"}}))
    reply = call(service, *arguments, client={"admin_key": KEY}, **named)
    assert type(reply) is shape
    assert set(shape.model_fields) <= set(given)
    assert json.loads(reply.model_dump_json(exclude={"new_member"})) == json.loads(json.dumps(given))
    (sent,) = service.seen
    assert (sent.method, sent.url.raw_path.decode()) == (method, path)
    assert (json.loads(sent.content) if sent.content else None) == body
    assert sent.headers.get("Content-Type") == ("application/json" if body else None)
    needs_key = arguments[0] in ("add_article", "delete_article")
    assert sent.headers.get("X-Admin-Key") == (KEY if needs_key else None)
    assert reply.request_id == sent.headers["X-Request-ID"]


def test_both_clients_have_the_same_calls() -> None:
    def calls_of(kind: type) -> dict[str, str]:
        public = {name: member for name, member in vars(kind).items() if name[0] != "_"}
        return {name: str(signature(member)) for name, member in public.items() if "close" not in name}

    assert calls_of(Client) == calls_of(AsyncClient)
    assert {arguments[0] for arguments, *_ in CALLS} == set(calls_of(Client))


def test_the_path_of_a_service_behind_a_prefix() -> None:
    service = Scripted(ok())
    with Client("http://there/keymiss/", transport=httpx.MockTransport(service)) as client:
        client.live()
    assert str(service.seen[0].url) == "http://there/keymiss/livez"


@by_both
def test_a_request_id_of_one_s_own(call: Callable[..., Any]) -> None:
    service = Scripted(ok(LIVE, **{"X-Request-ID": "my-question-1"}))
    assert call(service, "live", request_id="my-question-1").request_id == "my-question-1"
    assert service.seen[0].headers["X-Request-ID"] == "my-question-1"


@by_both
@pytest.mark.parametrize("request_id", ["short", "with blanks in it", "x" * 65, "line\nbreak-of-it"])
def test_an_id_that_the_service_would_replace_is_refused(call: Callable[..., Any], request_id: str) -> None:
    with pytest.raises(ValueError, match="request id"):
        call(Scripted(), "live", request_id=request_id)


@by_both
def test_time_limits(call: Callable[..., Any]) -> None:
    service = Scripted(ok(), ok(), ok())
    call(service, "live")
    call(service, "live", client={"timeout_s": 7})
    call(service, "live", client={"timeout_s": 7}, timeout_s=3)
    limits = [set(request.extensions["timeout"].values()) for request in service.seen]
    assert limits == [{40}, {7}, {3}]
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="time limit"):
            call(Scripted(), "live", timeout_s=wrong)


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://there", "https://", "http://x/?y", "http://x/#y"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url)


@pytest.mark.parametrize("key", ["schl\u00fcssel", "two\nlines"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="admin key") as raised:
        Client(admin_key=key)
    assert key not in str(raised.value)


def test_an_article_that_is_no_json() -> None:
    nobody = httpx.MockTransport(Scripted())
    with Client(transport=nobody) as client, pytest.raises(ValueError, match="JSON"):
        client.add_article({"year": float("nan")})


def test_certificates(tmp_path: Any) -> None:
    assert tls(True) is True
    assert tls(False) is False
    context = ssl.create_default_context()
    assert tls(context) is context
    assert isinstance(tls(tmp_path), ssl.SSLContext)
    with pytest.raises(OSError, match="No such file"):
        Client(verify=tmp_path / "none.pem")


@by_both
def test_answers(call: Callable[..., Any]) -> None:
    reply: Answers = call(Scripted(ok(questions.EXAMPLE_REPLY)), "ask", "Who?")
    best = reply.results[0]
    assert (reply.answer, reply.sentence, reply.sources) == (best.answer, best.sentence, best.sources)
    assert reply.best == best
    assert reply.score == 0.83
    assert reply.sources[1].article == "KM0007"
    assert reply.coverage.sentences.late == 5
    assert reply.coverage.unused[0].signal == "links"
    with pytest.raises(ValidationError, match="frozen"):
        reply.found = False  # type: ignore[misc]
    nothing: Answers = call(Scripted(ok(questions.EXAMPLE_NOTHING)), "ask", "Who?")
    assert (nothing.found, nothing.best, nothing.answer, nothing.sentence) == (False, None, None, None)
    assert nothing.sources == ()


@by_both
def test_a_state_is_one_of_the_known(call: Callable[..., Any]) -> None:
    reply = call(Scripted(ok(example(articles.ArticleReply))), "get_article", "KM1")
    assert reply.state is ArticleState.PROCESSED


def test_importing_keymiss_loads_no_client() -> None:
    """And the client nothing of a server."""
    code = (
        "import sys, keymiss\n"
        "assert not {'httpx', 'pydantic'} & set(sys.modules)\n"
        "from keymiss import AsyncClient, Client, KeymissError\n"
        "assert not {'fastapi', 'starlette', 'redis', 'numpy', 'keymiss.api'} & set(sys.modules)\n"
        "try:\n"
        "    keymiss.something\n"
        "except AttributeError as error:\n"
        "    assert 'something' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True, timeout=patient(60))
