"""What nginx refuses by itself comes as problem+json with the request's id, in HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.api.curl import VERSIONS, Reply, curl, parsed
from tests.api.processes import ApiProcess, NginxProcess
from tests.servers import REPO

FAULT = "        location = /fault { return 500; }\n        location = /livez {"
both_versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def nginx(api: ApiProcess) -> Iterator[NginxProcess]:
    with NginxProcess(api.port, {"        location = /livez {": FAULT}) as running:
        yield running


def said_to(nginx: NginxProcess, request: bytes) -> Reply:
    """The reply to these bytes, over TLS; read until nginx closes."""
    context = ssl.create_default_context(cafile=str(nginx.certificate))
    with (
        socket.create_connection(("127.0.0.1", nginx.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(request)
        return parsed(b"".join(iter(lambda: tls.recv(65536), b"")).decode())


@both_versions
@pytest.mark.parametrize(
    ("status", "path", "arguments"),
    [
        (404, "/page/nothing.js", ()),
        (404, "/metrics", ()),
        (404, "/nginx-error/503", ()),  # nobody asks for those pages
        (405, "/page/app.js", ("-X", "POST")),
        (405, "/livez", ("-X", "TRACE")),
        (412, "/page/app.js", ("-H", 'If-Match: "another"')),
        (413, "/qasearch", ("-H", "Expect:", "--data-binary", " " * 65537)),
        (416, "/page/app.js", ("-H", "Range: bytes=9999999-")),
        (500, "/fault", ()),
    ],
)
def test_it_is_a_problem(
    nginx: NginxProcess, version: str, status: int, path: str, arguments: tuple[str, ...]
) -> None:
    reply = curl(nginx.url + path, version, "-H", "X-Request-ID: of-this-request", *arguments)
    assert (reply.version, reply.status) == ("2" if version == "--http2" else "1.1", status)
    assert reply.problem["request_id"] == "of-this-request"
    assert reply.headers["strict-transport-security"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("status", "request_bytes"),
    [
        (400, b"not a request\r\n\r\n"),
        (400, b"GET /livez HTTP/1.1\r\n\r\n"),  # no Host
        (400, b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"POST /qasearch HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
        (405, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
        (501, b"POST /qasearch HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n"),
        (505, b"GET /livez HTTP/3.0\r\nHost: a\r\n\r\n"),
    ],
)
def test_what_is_no_request_is_a_problem(nginx: NginxProcess, status: int, request_bytes: bytes) -> None:
    reply = said_to(nginx, request_bytes)
    assert reply.status in (status, 400)  # which of them nginx sees first is its own affair
    assert len(reply.problem["request_id"]) >= 8


@both_versions
def test_a_body_without_a_length_may_not_be_larger_either(nginx: NginxProcess, version: str) -> None:
    sent = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    try:
        reply = curl(f"{nginx.url}/qasearch", version, "-X", "POST", "-T", "-", stdin=sent.stdout)
    finally:
        sent.kill()
        sent.communicate()
    assert reply.status == 413
    assert reply.problem["detail"].startswith("the body may have 65536 bytes")


@both_versions
def test_an_api_that_is_late_is_504(version: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        late = {"proxy_read_timeout 30s": "proxy_read_timeout 300ms"}
        with NginxAlone(silent.getsockname()[1], late) as nginx:
            reply = curl(f"{nginx.url}/search?search=x", version)
    assert (reply.status, reply.problem["title"]) == (504, "The API did not answer in time")


@both_versions
def test_an_api_that_closes_the_connection_is_503(version: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closing = threading.Thread(target=lambda: server.accept()[0].close())
        closing.start()
        with NginxAlone(server.getsockname()[1]) as nginx:
            reply = curl(f"{nginx.url}/search?search=x", version)
        closing.join()
    assert (reply.status, reply.problem["title"]) == (503, "The API is not running")


class NginxAlone(NginxProcess):
    """Nothing is asked of the API while it starts."""

    def _up(self) -> bool:
        assert self.alive, self.tail()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


def test_every_error_that_nginx_has_is_mapped_and_its_page_is_json() -> None:
    """Also what cannot be made to happen here."""
    template = (REPO / "nginx" / "nginx.conf.template").read_text()
    mapped: set[int] = set()
    for codes, page in re.findall(r"error_page ((?:\d+ )+)(?:=\d* )?(/nginx-error/\d+);", template):
        mapped |= {int(code) for code in codes.split()}
        assert f"location = {page} {{" in template
    possible = {400, 403, 404, 405, 408, 412, 413, 414, 416, 429, 494, 495, 496, 497, 500, 501, 502, 503, 504}
    assert mapped == possible | {505}
    texts = re.findall(r"return (\d+) '([^']*)'", template)
    assert len(texts) == 16
    for code, text in texts:
        assert json.loads(text)["status"] == int(code)
