"""Every 429, 503 and 504 says when to ask again: the API's own, and nginx's."""

from __future__ import annotations

import socket

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from keymiss.api.app import create_app
from keymiss.api.http import problems
from keymiss.api.settings import ApiSettings
from tests.api.curl import VERSIONS, curl
from tests.api.processes import ApiProcess, NginxProcess
from tests.api.test_nginx_errors_are_problems import NginxAlone
from tests.servers import REPO, free_port

WAIT_S = {429: "1", 503: "5", 504: "5"}
OTHER_WAIT_S = {problems.NoPrometheus: "60"}
"""It needs a new start of the system."""
both_versions = pytest.mark.parametrize("version", VERSIONS)


def raised(error: Exception) -> dict[str, str]:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def _raise() -> None:
        raise error

    reply = TestClient(app, raise_server_exceptions=False).get("/")
    return dict(reply.headers)


@pytest.mark.parametrize("kind", list(problems.TABLE))
def test_of_every_problem(kind: type[problems.Problem]) -> None:
    expected = OTHER_WAIT_S.get(kind, WAIT_S.get(problems.TABLE[kind][0]))
    assert raised(kind("what is wrong")).get("retry-after") == expected


@pytest.mark.parametrize("status", [429, 503, 504])
def test_of_what_the_framework_says(status: int) -> None:
    assert raised(HTTPException(status))["retry-after"] == WAIT_S[status]
    assert raised(HTTPException(status, headers={"Retry-After": "7"}))["retry-after"] == "7"


def test_the_openapi_document_says_so() -> None:
    paths = create_app(ApiSettings()).openapi()["paths"].values()
    replies = [reply for path in paths for each in path.values() for reply in each["responses"].items()]
    assert {status for status, _ in replies} >= {"429", "503", "504"}
    for status, reply in replies:
        assert ("Retry-After" in reply.get("headers", {})) == (int(status) in WAIT_S), status


@both_versions
def test_the_api_s_word_passes_nginx_once(version: str) -> None:
    with ApiProcess(f"127.0.0.1:{free_port()}") as api, NginxProcess(api.port) as nginx:
        said = {"/readyz": "5", "/search?search=x": None, "/watch/dashboards": None, "/livez": None}
        for path, wait_s in said.items():
            reply = curl(nginx.url + path, version)
            assert (reply.headers.get("retry-after"), reply.status) == (wait_s, 503 if wait_s else 200), path
        reply = curl(f"{nginx.url}/watch/dashboards/keymiss-pattern/panels/1", version)
        assert (reply.problem["title"], reply.headers["retry-after"]) == (
            "Prometheus is not configured",
            "60",
        )


@both_versions
def test_nginx_s_own_503_and_504(version: str) -> None:
    with NginxProcess(free_port()) as nginx:
        reply = curl(f"{nginx.url}/qasearch", version, "-d", "{}")
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        late = {"proxy_read_timeout 30s": "proxy_read_timeout 300ms"}
        with NginxAlone(silent.getsockname()[1], late) as nginx:
            reply = curl(f"{nginx.url}/livez", version)
    assert (reply.status, reply.headers["retry-after"]) == (504, "5")


def test_nginx_and_the_api_have_the_same_numbers() -> None:
    template = (REPO / "nginx" / "nginx.conf.template").read_text()
    for status, seconds in problems.RETRY_AFTER_S.items():
        assert f"        {status} {seconds};\n" in template
        assert WAIT_S[status] == str(seconds)
