"""CORS: off unless origins are named, and then for those alone; a bad setting is said at the start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from keymiss.api.settings import ApiSettings
from keymiss.environment import BadSetting
from tests.api.processes import ApiProcess
from tests.api.test_qasearch_bad_input import assert_problem
from tests.patience import patient
from tests.servers import REPO, free_port

PAGE, SECOND_PAGE, OTHER_PAGE = "https://pages.example", "http://localhost:4200", "https://elsewhere.example"
SETTING = "KEYMISS_API_CORS_ORIGINS"


@pytest.fixture(scope="module")
def api() -> Iterator[ApiProcess]:
    """Without a cluster: errors have the headers, too."""
    with ApiProcess(f"127.0.0.1:{free_port()}", env={SETTING: f"{PAGE}, {SECOND_PAGE}"}) as running:
        yield running


def preflight(api: ApiProcess, method: str, origin: str = PAGE, headers: str = "") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return httpx.options(f"{api.url}/search", headers=asked)


def test_replies_and_errors_may_be_read_by_the_pages_named(api: ApiProcess) -> None:
    for origin in (PAGE, SECOND_PAGE):
        headers = {"Origin": origin}
        replies = [
            httpx.get(f"{api.url}/livez", headers=headers),
            httpx.get(f"{api.url}/nowhere", headers=headers),
            httpx.post(f"{api.url}/qasearch", content=b"{", headers=headers),
            httpx.post(f"{api.url}/qasearch", json={"search": "Who?"}, headers=headers, timeout=patient(30)),
        ]
        assert [reply.status_code for reply in replies] == [200, 404, 400, 503]
        for reply in replies:
            assert reply.headers["access-control-allow-origin"] == origin
            assert reply.headers["access-control-allow-credentials"] == "true"
            assert "origin" in reply.headers["vary"].lower()
            assert "x-request-id" in reply.headers["access-control-expose-headers"].lower()


def test_other_pages_may_read_nothing(api: ApiProcess) -> None:
    for origin in (OTHER_PAGE, "null", f"{PAGE}.elsewhere.example", PAGE.upper(), "http://pages.example"):
        reply = httpx.get(f"{api.url}/livez", headers={"Origin": origin})
        assert reply.status_code == 200
        assert "access-control-allow-origin" not in reply.headers
    assert "access-control-allow-origin" not in httpx.get(f"{api.url}/livez").headers


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_a_page_may_send(api: ApiProcess, method: str) -> None:
    reply = preflight(api, method, headers="content-type, x-request-id")
    assert reply.status_code == 200
    assert method in reply.headers["access-control-allow-methods"]
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "origin", "headers", "word"),
    [
        ("GET", OTHER_PAGE, "", "origin"),
        ("PUT", PAGE, "", "method"),
        ("POST", PAGE, "x-admin-key", "headers"),
    ],
)
def test_what_a_page_may_not_send(api: ApiProcess, method: str, origin: str, headers: str, word: str) -> None:
    assert_problem(preflight(api, method, origin, headers), 400, word)


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        f"{PAGE},*",
        "pages.example",
        f"{PAGE}/",
        f"{PAGE}/path",
        "https://Pages.example",
        "https://pages.example:443",
        "http://pages.example:80",
        "https://user@pages.example",
        "https://pages.example:0",
        "https://*.example",
        "ftp://pages.example",
        "null",
        "https://",
        f"{PAGE},,{SECOND_PAGE}",
    ],
)
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(BadSetting, match=SETTING) as refused:
        ApiSettings.from_env({SETTING: origins})
    assert "'*' is refused" in str(refused.value) or "https://example.org" in str(refused.value)


def test_what_is_an_origin() -> None:
    given = "https://a-b.example:8443,http://[::1]:80800,http://127.0.0.1,https://x:80, http://x:443"
    assert ApiSettings.from_env({SETTING: given.replace("80800", "8080")}).cors_origins == (
        "https://a-b.example:8443",
        "http://[::1]:8080",
        "http://127.0.0.1",
        "https://x:80",
        "http://x:443",
    )
    assert ApiSettings.from_env({SETTING: ""}).cors_origins == ()


def test_a_bad_origin_is_said_at_the_start() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "keymiss.api", "--port", "1"],
        cwd=REPO,
        env={SETTING: "*"},
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )
    assert ended.returncode == 2
    assert f"{SETTING} must name each origin" in ended.stderr
