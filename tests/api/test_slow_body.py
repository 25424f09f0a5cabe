"""A body that does not come to its end in time is 408, whether nginx is between or not; then the connection
ends."""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.curl import VERSIONS, Reply, curl, parsed
from tests.api.processes import QUESTION, ApiProcess, NginxProcess
from tests.api.scraping import scrape
from tests.servers import RedisClusterServers

LIMIT_S = 1.0
KEY = "a key of some length"
WHOLE = json.dumps({"search": QUESTION}).encode()


@pytest.fixture(scope="module")
def api(filled: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {
        "KEYMISS_API_BODY_TIME_LIMIT_S": str(LIMIT_S),
        "KEYMISS_API_ARTICLE_TIME_LIMIT_S": str(LIMIT_S),
        "KEYMISS_API_ADMIN_KEY": KEY,
    }
    with ApiProcess(filled.addresses, wait_indexed=2, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def nginx(api: ApiProcess) -> Iterator[NginxProcess]:
    with NginxProcess(api.port) as running:
        yield running


@pytest.fixture(params=["direct", "nginx"])
def connection(request: pytest.FixtureRequest, api: ApiProcess) -> Iterator[socket.socket]:
    """To the API itself, and through nginx."""
    if request.param == "direct":
        with socket.create_connection(("127.0.0.1", api.port), timeout=60) as plain:
            yield plain
        return
    nginx: NginxProcess = request.getfixturevalue("nginx")
    context = ssl.create_default_context(cafile=str(nginx.certificate))
    with (
        socket.create_connection(("127.0.0.1", nginx.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        yield tls


def head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Admin-Key: {KEY}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def read_to_the_end(connection: socket.socket) -> Reply:
    return parsed(b"".join(iter(lambda: connection.recv(65536), b"")).decode())


@pytest.mark.parametrize("path", ["/qasearch", "/search", "/articles"])
@pytest.mark.parametrize("sent", [0, 10])
def test_a_body_that_stops(connection: socket.socket, path: str, sent: int) -> None:
    connection.sendall(head(path, len(WHOLE)) + WHOLE[:sent])
    start_s = time.monotonic()
    reply = read_to_the_end(connection)
    assert time.monotonic() - start_s >= LIMIT_S / 2
    assert (reply.status, reply.problem["title"]) == (408, "The body did not arrive in time")
    assert f"only {sent} bytes of the body arrived within 1 s" in reply.problem["detail"]


def test_a_body_that_comes_byte_by_byte(connection: socket.socket) -> None:
    """It never stops, but is not whole in time either."""
    connection.sendall(head("/qasearch", 60_000))
    connection.settimeout(LIMIT_S / 10)
    came = b""
    for _ in range(600):
        try:
            connection.sendall(b" ")
            part = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:  # closed
            break
        came += part
        if not part:
            break
    reply = parsed(came.decode())
    assert (reply.status, reply.problem["title"]) == (408, "The body did not arrive in time")


def test_a_body_in_two_parts_is_in_time(connection: socket.socket) -> None:
    connection.sendall(head("/qasearch", len(WHOLE)) + WHOLE[:20])
    connection.sendall(WHOLE[20:])
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    both = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert both.startswith("HTTP/1.1 200")
    assert both.count("HTTP/1.1 200") == 2


def test_without_the_admin_key_a_slow_body_is_refused_as_such(api: ApiProcess) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as plain:
        plain.sendall(head("/articles", 1000).replace(KEY.encode(), b"another") + b"{")
        assert plain.recv(65536).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("version", VERSIONS)
def test_in_both_versions(nginx: NginxProcess, version: str) -> None:
    """60,000 bytes at 1,000 a second."""
    arguments = ("-H", "Expect:", "--limit-rate", "1000", "--data-binary", "@-")
    with tempfile.TemporaryFile() as body:
        body.write(b" " * 60_000)
        body.seek(0)
        reply = curl(f"{nginx.url}/qasearch", version, *arguments, stdin=body)
    assert (reply.status, reply.problem["title"]) == (408, "The body did not arrive in time")
    assert reply.version == version.removeprefix("--http")


def test_it_counts_as_refused_and_others_are_answered(api: ApiProcess) -> None:
    before = scrape(api.url)
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as plain:
        plain.sendall(head("/qasearch", 100))
        assert httpx.post(f"{api.url}/qasearch", content=WHOLE, timeout=30).status_code == 200
        assert read_to_the_end(plain).status == 408
    since = scrape(api.url).since(before)
    assert since.value("keymiss_questions_total", outcome="refused") == 1
    assert since.value("keymiss_questions_total", outcome="answered") == 1
    assert since.value("keymiss_http_requests_total", route="/qasearch", method="POST", code="408") == 1
