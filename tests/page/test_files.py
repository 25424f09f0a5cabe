"""The page's files as nginx gives them: types, headers, errors."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

import httpx
import pytest

from tests.page.conftest import Site
from tests.patience import patient
from tests.servers import REPO

PAGE = REPO / "nginx" / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}
FILES = [file for file in sorted(PAGE.rglob("*")) if file.is_file()]
ADDRESSES = {
    "/": "index.html",
    "/?q=who": "index.html",
    "/watch": "watch.html",
    "/watch?range=300": "watch.html",
}
POLICY = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
]


@pytest.fixture(scope="module")
def http(site: Site) -> Iterator[httpx.Client]:
    certificate = ssl.create_default_context(cafile=str(site.nginx.certificate))
    with httpx.Client(base_url=site.url, verify=certificate, timeout=patient(30)) as client:
        yield client


@pytest.mark.parametrize("path", [*ADDRESSES, *(f"/page/{file.relative_to(PAGE)}" for file in FILES)])
def test_every_file_has_its_type_and_the_page_s_headers(http: httpx.Client, path: str) -> None:
    file = PAGE / (ADDRESSES.get(path) or path.removeprefix("/page/"))
    reply = http.get(path)
    assert reply.status_code == 200
    assert reply.content == file.read_bytes()
    assert reply.headers["content-type"] == TYPES[file.suffix]
    assert reply.headers["content-security-policy"].split("; ") == POLICY
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["strict-transport-security"]
    assert reply.headers["cache-control"] == "no-cache"
    assert http.get(path, headers={"If-None-Match": reply.headers["etag"]}).status_code == 304


BROWSERS = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("article", ["KM0001", "10.1000%2Fa%3Ab", "not-there"])
def test_the_reading_page_is_for_who_wants_html(http: httpx.Client, article: str) -> None:
    reply = http.get(f"/articles/{article}", headers={"Accept": BROWSERS})
    assert reply.status_code == 200
    assert reply.content == (PAGE / "article.html").read_bytes()
    assert reply.headers["content-security-policy"].split("; ") == POLICY
    assert reply.headers["vary"] == "Accept"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html"])
def test_the_same_address_is_json_for_programs(http: httpx.Client, accept: str) -> None:
    reply = http.get("/articles/not-there", headers={"Accept": accept})
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["vary"] == "Accept"


def test_only_reading_has_a_page(http: httpx.Client) -> None:
    reply = http.delete("/articles/not-there", headers={"Accept": BROWSERS})
    assert reply.status_code == 403
    assert reply.headers["content-type"] == "application/problem+json"


def test_the_api_keeps_its_own_headers(http: httpx.Client) -> None:
    reply = http.get("/openapi.json")
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    assert "trusted-types" not in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/page/nothing.js", "/page/../nginx.conf.template", "/page/%2e%2e/nginx.conf.template"]
)
def test_what_is_not_there_is_404(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["status"] == 404


def test_the_page_can_only_be_read(http: httpx.Client) -> None:
    reply = http.post("/", json={})
    assert reply.status_code == 405
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["status"] == 405


def test_the_files_name_no_other_host_and_write_no_markup() -> None:
    """The browser would refuse both; this says in which file."""
    svg = "http://www.w3.org/2000/svg"
    for file in FILES:
        if file.parent.name == "lib":
            continue  # its licence and its origin have addresses; what it does, the browser watches
        text = file.read_text().replace(svg, "")
        assert not re.search(r"https?://", text), file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), (
            file.name
        )
