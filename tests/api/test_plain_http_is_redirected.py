"""http:// on the TLS port is sent on to https:// on the host and port that were asked for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.api.curl import Reply, curl, parsed
from tests.api.processes import QUESTION, ApiProcess, NginxProcess


@pytest.fixture(scope="module")
def nginx(api: ApiProcess) -> Iterator[NginxProcess]:
    with NginxProcess(api.port) as running:
        yield running


def said_in_plain(nginx: NginxProcess, request: str) -> Reply:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=30) as plain:
        plain.sendall(request.encode())
        return parsed(b"".join(iter(lambda: plain.recv(65536), b"")).decode())


@pytest.mark.parametrize(
    "host", ["localhost:8080", "10.0.0.7", "example.org:65000", "[::1]:8443", "a-b.example", "under_score"]
)
@pytest.mark.parametrize("path", ["/", "/search?search=a%20b&limit=1", "/edge/A:B"])
def test_the_same_host_port_and_path(nginx: NginxProcess, host: str, path: str) -> None:
    reply = said_in_plain(nginx, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert reply.status == 308
    assert reply.headers["location"] == f"https://{host}{path}"


@pytest.mark.parametrize(
    "host", ["good.example@evil.example", "evil.example/x", "a b", "a:99999999", "a?b", "a#b", "[::1", ""]
)
def test_a_host_that_could_be_anything_else_is_refused(nginx: NginxProcess, host: str) -> None:
    reply = said_in_plain(nginx, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert "location" not in reply.headers
    assert (reply.status, reply.problem["status"]) == (400, 400)


def test_without_a_host_it_is_refused(nginx: NginxProcess) -> None:
    reply = said_in_plain(nginx, "GET /livez HTTP/1.0\r\n\r\n")
    assert (reply.status, reply.problem["title"]) == (400, "Plain HTTP on the TLS port")


def test_the_host_of_the_redirect_is_the_header_s(nginx: NginxProcess) -> None:
    """And no other that the request may name; nor can a path become a part of it."""
    reply = said_in_plain(
        nginx,
        "GET http://evil.example/x HTTP/1.1\r\nHost: localhost:8080\r\n"
        "X-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n",
    )
    assert reply.headers["location"] == "https://localhost:8080/x"
    reply = said_in_plain(nginx, "GET //evil.example HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n")
    assert reply.headers["location"] == "https://a:1//evil.example"


def test_a_question_that_was_posted_arrives(nginx: NginxProcess) -> None:
    """308: the method and the body stay."""
    body = json.dumps({"search": QUESTION})
    reply = curl(f"http://127.0.0.1:{nginx.port}/qasearch", "-L", "-d", body)
    assert (reply.status, reply.version) == (200, "2")
    assert json.loads(reply.body)["found"] is True
