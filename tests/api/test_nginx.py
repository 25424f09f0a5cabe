"""A real nginx with the project's configuration in front of the real API."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.processes import QUESTION, ApiProcess, NginxProcess
from tests.patience import patient
from tests.servers import free_port


@pytest.fixture(scope="module")
def nginx(api: ApiProcess) -> Iterator[NginxProcess]:
    with NginxProcess(api.port) as running:
        yield running


def client(nginx: NginxProcess) -> httpx.Client:
    return httpx.Client(base_url=nginx.url, verify=False, timeout=patient(30))


def calm(nginx: NginxProcess) -> None:
    """Lets the rate limit's burst run empty (100 at 50 a second); there is no way to ask nginx for it."""
    time.sleep(2.1)


def logs_of(nginx: NginxProcess) -> str:
    """All that it has written, after a moment."""
    time.sleep(0.1)
    names = ("nginx-access.log", "nginx-error.log")
    return nginx.log_text() + "".join((nginx.folder / name).read_text() for name in names)


def test_a_question_is_answered_over_tls(nginx: NginxProcess) -> None:
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--cacert",
            str(nginx.certificate),
            "-H",
            "Content-Type: application/json",
            "-X",
            "POST",
            "-d",
            f'{{"search":"{QUESTION}"}}',
            "-w",
            "\n%{http_version} %{http_code}",
            f"{nginx.url}/qasearch",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    body, _, last = done.stdout.rpartition("\n")
    assert last == "2 200"
    assert '"answer"' in body


def test_http_1_1_too_and_the_headers(nginx: NginxProcess) -> None:
    with client(nginx) as http:
        reply = http.post("/qasearch", json={"search": QUESTION})
    assert (reply.status_code, reply.http_version) == (200, "HTTP/1.1")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["strict-transport-security"]
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["server"] == "nginx"


def test_the_documentation_passes(nginx: NginxProcess) -> None:
    with client(nginx) as http:
        assert "swagger" in http.get("/docs").text.lower()
        document = http.get("/openapi.json").json()
        assert {"/qasearch", "/livez", "/readyz", "/healthz"} <= set(document["paths"])
        assert document["components"]["schemas"]["Question"]["examples"][0] == {"search": QUESTION}
        assert http.get("/livez").json() == {"status": "live"}
        assert http.get("/readyz").status_code == 503  # no module here; that it passes through is what counts


def test_over_64_kib_is_413(nginx: NginxProcess) -> None:
    with client(nginx) as http:
        reply = http.post("/qasearch", content=b" " * 65537)
    assert reply.status_code == 413
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["status"] == 413
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_the_api_s_problems_pass_as_they_are(nginx: NginxProcess) -> None:
    with client(nginx) as http:
        for content, status in ((b"{", 400), (b"{}", 422)):
            reply = http.post("/qasearch", content=content)
            assert (reply.status_code, reply.json()["status"]) == (status, status)
            assert reply.headers["content-type"] == "application/problem+json"


def test_it_listens_on_loopback_only(nginx: NginxProcess, api: ApiProcess) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's own address
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]
    for port in (nginx.port, api.port):
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((own, port), timeout=patient(2)).close()


def test_too_many_requests_are_429(nginx: NginxProcess) -> None:
    calm(nginx)

    def several(_: int) -> list[httpx.Response]:
        with client(nginx) as http:
            return [http.get("/nothing?search=a+private+matter") for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        replies = [reply for some in pool.map(several, range(8)) for reply in some]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert {reply.status_code for reply in replies} == {404, 429}
    assert len(replies) - len(refused) >= 100  # the burst
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["status"] == 429
    assert refused[0].json()["request_id"] == refused[0].headers["x-request-id"]
    assert "private" not in logs_of(nginx)
    calm(nginx)


def test_an_api_that_is_away_is_503() -> None:
    with NginxProcess(free_port()) as alone, client(alone) as http:
        reply = http.post("/qasearch", json={"search": QUESTION})
        assert reply.status_code == 503
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["title"] == "The API is not running"
        assert http.get("/search?search=a+private+matter").status_code == 503
        assert "private" not in logs_of(alone)
        assert alone.terminate() == 0


def test_everything_it_writes_is_in_its_folder(nginx: NginxProcess) -> None:
    names = {path.name for path in nginx.folder.iterdir()}
    assert {"nginx.pid", "nginx-access.log", "nginx-error.log", "nginx-body"} <= names
    assert QUESTION not in (nginx.folder / "nginx-access.log").read_text()
