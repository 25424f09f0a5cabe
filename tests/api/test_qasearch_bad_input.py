"""Whatever comes in, the reply is a problem that says what is wrong, or an answer; never a 500."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from keymiss.client import Unavailable
from tests.api.processes import QUESTION, ApiProcess
from tests.patience import patient


def post(api: ApiProcess, body: bytes, content_type: str = "application/json") -> httpx.Response:
    headers = {"content-type": content_type}
    return httpx.post(f"{api.url}/qasearch", content=body, headers=headers, timeout=patient(30))


def assert_problem(reply: httpx.Response, status: int, *words: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    for word in words:
        assert word in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"search=hello",
        b'{"search": NaN}',
        b"\xff\xfe",
        b'{"search": "\\ud800"}',
        b"[" * 60_000,
        b'\xef\xbb\xbf{"search": "x"}',
        b"{'search': 'x'}",
        b'{"search": "a" } trailing',
        b'{"search": "a\nb"}',
    ],
)
def test_not_json_is_400(api: ApiProcess, body: bytes) -> None:
    assert_problem(post(api, body), 400, "JSON")


def test_over_64_kib_is_413(api: ApiProcess) -> None:
    body = json.dumps({"search": QUESTION}).encode()
    assert post(api, body + b" " * (65536 - len(body))).status_code == 200
    assert_problem(post(api, body + b" " * (65537 - len(body))), 413, "65536")


def test_over_64_kib_without_a_length_is_413(api: ApiProcess) -> None:
    chunks = (b"x" * 8192 for _ in range(20))
    reply = httpx.post(f"{api.url}/qasearch", content=chunks)
    assert_problem(reply, 413, "65536")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({}, "search"),
        ([], "object"),
        ("text", "object"),
        (None, "object"),
        (7, "object"),
        ({"Search": "x"}, "search"),
        ({"search": None}, "string"),
        ({"search": 1}, "string"),
        ({"search": True}, "string"),
        ({"search": ["x"]}, "string"),
        ({"search": {"q": "x"}}, "string"),
        ({"search": ""}, "search"),
        ({"search": "   "}, "blank"),
        ({"search": "\n\t\u00a0"}, "blank"),
        ({"search": "x" * 513}, "512"),
        ({"search": "\U0001f9a0" * 513}, "512"),
        ({"search": "a\0b"}, "NUL"),
    ],
)
def test_what_cannot_be_asked_is_422(api: ApiProcess, value: object, word: str) -> None:
    reply = post(api, json.dumps(value).encode())
    assert_problem(reply, 422, word)
    assert reply.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "question",
    [
        "x" * 512,
        "\U0001f9a0" * 512,
        "who",
        "AND OR NOT",
        'viral" AND (',
        "body:viral^2 [a TO b]",
        "*",
        "~",
        "\\",
        "viral {x}",
        "viral}{",
        "under_score _ and_",
        "\u202e\u0301",
        "\x01\x7f",
        "ünïcode wörds",
        "ﬁ",
    ],
)
def test_odd_questions_are_asked_or_fail_in_words(api: ApiProcess, question: str) -> None:
    """No answer is cached and no module is there: candidates end in 503, none at all in an empty reply."""
    try:
        reply = api.ask(question)
    except Unavailable:
        return
    assert reply.results == ()
    assert reply.coverage.sentences.asked == 0


def test_white_space_and_other_members_do_not_matter(api: ApiProcess) -> None:
    spaced = "  " + QUESTION.replace(" ", " \t ") + " \n"
    body = json.dumps({"search": spaced, "limit": 3}).encode()
    assert post(api, body).json()["results"]


def test_the_content_type_is_not_looked_at(api: ApiProcess) -> None:
    assert post(api, json.dumps({"search": QUESTION}).encode(), "text/plain").status_code == 200


def test_wrong_paths_and_methods_are_problems(api: ApiProcess) -> None:
    assert_problem(httpx.get(f"{api.url}/nothing"), 404, "/nothing")
    reply = httpx.get(f"{api.url}/qasearch")
    assert_problem(reply, 405)
    assert reply.headers["allow"] == "POST"


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault(api: ApiProcess) -> None:
    with socket.create_connection(("127.0.0.1", api.port)) as raw:
        raw.sendall(b"POST /qasearch HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert api.ask().found
    assert "Traceback" not in api.log_text()


def test_no_cors_headers(api: ApiProcess) -> None:
    reply = httpx.post(
        f"{api.url}/qasearch", json={"search": QUESTION}, headers={"Origin": "https://example.org"}
    )
    assert not [name for name in reply.headers if name.startswith("access-control")]
