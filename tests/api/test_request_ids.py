"""Every reply of the API has the request's id, and so has every line that is written for the request."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.testclient import TestClient

from keymiss.api.app import create_app
from keymiss.api.settings import ApiSettings
from keymiss.request_id import HEADER
from tests.api.processes import QUESTION, ApiProcess
from tests.api.scraping import lines
from tests.patience import patient
from tests.servers import wait_until


def ask(api: ApiProcess, request_id: str | None = None, question: str = QUESTION) -> httpx.Response:
    headers = {HEADER: request_id} if request_id else {}
    return httpx.post(f"{api.url}/qasearch", json={"search": question}, headers=headers, timeout=patient(30))


def test_a_given_id_comes_back_and_is_in_the_log(api: ApiProcess) -> None:
    reply = ask(api, "from-the-client.1")
    assert (reply.status_code, reply.headers[HEADER]) == (200, "from-the-client.1")
    (line,) = wait_until(lambda: of_request(api, "from-the-client.1"), 5, "the question's line")
    assert (line["outcome"], line["level"]) == ("answered", "info")
    assert line["sentences"] == {
        "asked": 6,
        "answered": 6,
        "cached": 6,
        "late": 0,
        "busy": 0,
        "failed": 0,
        "unread": 0,
    }
    assert len(line["shards"]) == 2
    assert set(line["stages_ms"]) == {"retrieve", "ask", "merge"}
    assert sum(line["stages_ms"].values()) <= line["took_ms"]


def of_request(api: ApiProcess, request_id: str) -> list[dict[str, object]]:
    return [line for line in lines(api, "question") if line.get("request_id") == request_id]


@pytest.mark.parametrize("given", [None, "short", "x" * 65, 'a"quote"in it', "{" * 10])
def test_else_one_is_made(api: ApiProcess, given: str | None) -> None:
    ids = [ask(api, given).headers[HEADER] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/qasearch", 400),
        ("GET", "/nothing", 404),
        ("DELETE", "/livez", 405),
        ("GET", "/readyz", 503),
    ],
)
def test_problems_have_it_in_their_body(api: ApiProcess, method: str, path: str, status: int) -> None:
    reply = httpx.request(method, api.url + path, headers={HEADER: f"problem-{status}"}, timeout=patient(30))
    assert reply.status_code == status
    assert reply.headers[HEADER] == reply.json()["request_id"] == f"problem-{status}"


def test_a_fault_of_ours_has_it_too() -> None:
    app = create_app(ApiSettings())

    @app.get("/fault")
    async def _fault() -> None:
        raise RuntimeError("hunter2")

    reply = TestClient(app, raise_server_exceptions=False).get("/fault", headers={HEADER: "fault-0001"})
    assert reply.status_code == 500
    assert reply.headers[HEADER] == reply.json()["request_id"] == "fault-0001"
    labels = {"route": "/fault", "method": "GET", "code": "500"}
    assert app.state.metrics.registry.get_sample_value("keymiss_http_requests_total", labels) == 1


def test_requests_at_once_keep_theirs_apart(api: ApiProcess) -> None:
    names = [f"at-once-{number:02}" for number in range(20)]
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda name: ask(api, name), names))
    assert [reply.headers[HEADER] for reply in replies] == names
    wait_until(lambda: all(len(of_request(api, name)) == 1 for name in names), 5, "a line for each")


def test_a_question_s_text_is_in_no_log(api: ApiProcess) -> None:
    """Not of one that fails either: the shards here have no module, which they say with the key."""
    question = "Which viral hippopotamus is not there"
    assert ask(api, "not-there-1", question).status_code == 503
    (line,) = wait_until(lambda: of_request(api, "not-there-1"), 5, "the question's line")
    assert (line["outcome"], line["level"]) == ("failed", "warning")
    assert QUESTION not in api.log_text()
    assert "hippopotamus" not in api.log_text()


def test_every_line_is_json(api: ApiProcess) -> None:
    assert {line["event"] for line in lines(api)} == {"log", "question"}
    assert any(line.get("logger") == "uvicorn.error" for line in lines(api))
