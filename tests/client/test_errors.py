"""What is raised for which reply, and what it says."""

from __future__ import annotations

import copy
import pickle
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from keymiss import Client
from keymiss.client import (
    BadRequest,
    KeymissError,
    Late,
    NotAllowed,
    NotFound,
    Refused,
    ServerFault,
    TimedOut,
    TooBusy,
    Unavailable,
    UnexpectedReply,
    Unreachable,
)
from tests.client.both_clients import BOTH, ONCE, Scripted, ok, problem
from tests.patience import patient
from tests.servers import free_port

by_both = pytest.mark.parametrize("call", BOTH)
KINDS = {
    400: BadRequest,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    405: BadRequest,
    408: BadRequest,
    413: BadRequest,
    422: BadRequest,
    429: TooBusy,
    500: ServerFault,
    502: ServerFault,
    503: Unavailable,
    504: Late,
}


def raised_for(call: Callable[..., Any], reply: httpx.Response | Exception) -> KeymissError:
    with pytest.raises(KeymissError) as raised:
        call(Scripted(reply), "live", client={"retries": ONCE}, request_id="mine-of-the-call")
    return raised.value


@by_both
@pytest.mark.parametrize(("status", "kind"), KINDS.items())
def test_a_problem(call: Callable[..., Any], status: int, kind: type[Refused]) -> None:
    errors = [{"field": "search", "message": "missing"}]
    head = {"X-Request-ID": "the-id-of-the-reply", "Retry-After": "7"}
    error = raised_for(call, problem(status, "It is wrong", "very", errors=errors, headers=head))
    assert type(error) is kind
    assert isinstance(error, Refused)
    assert (error.status, error.title, error.detail) == (status, "It is wrong", "very")
    assert error.problem.type == "about:blank"
    assert error.members == {"errors": errors}
    assert error.request_id == "the-id-of-the-reply"
    assert error.retry_after_s == 7
    assert str(error) == f"{status} It is wrong: very (request the-id-of-the-reply)"


@by_both
@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"<html>Bad gateway</html>", "text/html"),
        (b"", "text/plain"),
        (b"\xff\xfe", "application/octet-stream"),
        (b"[1]", "application/problem+json"),
        (b'{"title": 5, "status": "x", "detail": []}', "application/problem+json"),
    ],
)
def test_an_error_that_is_no_problem(call: Callable[..., Any], body: bytes, media_type: str) -> None:
    """Of a proxy of another kind: the status counts, and what it said is shown."""
    error = raised_for(call, httpx.Response(502, content=body, headers={"Content-Type": media_type}))
    assert isinstance(error, ServerFault)
    assert (error.status, error.title) == (502, "Bad Gateway")
    assert media_type in error.detail
    assert error.request_id == "mine-of-the-call"
    assert error.members == {}


@by_both
def test_the_status_of_the_reply_counts(call: Callable[..., Any]) -> None:
    said_otherwise = problem(404)
    said_otherwise.status_code = 503
    error = raised_for(call, said_otherwise)
    assert isinstance(error, Unavailable)
    assert error.status == 503


@by_both
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (httpx.Response(200, text="<html>Welcome</html>"), "Welcome"),
        (httpx.Response(200, content=b""), "body"),
        (httpx.Response(204), "body"),
        (httpx.Response(200, content=b'{"status": "li'), "body"),
        (ok([]), "body"),
        (ok({}), "status"),
        (ok({"status": 5}), "status"),
        (httpx.Response(308, headers={"Location": "https://there/"}), "308 to https://there/"),
        (httpx.Response(304), "304"),
        (httpx.DecodingError("no gzip"), "no gzip"),
    ],
)
def test_a_reply_that_is_not_of_this_api(
    call: Callable[..., Any], reply: httpx.Response | Exception, words: str
) -> None:
    error = raised_for(call, reply)
    assert type(error) is UnexpectedReply
    assert words in str(error)
    assert error.request_id == "mine-of-the-call"
    assert len(str(error)) < 500


@by_both
def test_a_long_reply_is_not_shown_whole(call: Callable[..., Any]) -> None:
    assert len(str(raised_for(call, httpx.Response(200, text="x" * 100_000)))) < 500


@by_both
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (httpx.ConnectError("refused"), Unreachable),
        (httpx.ReadError(""), Unreachable),
        (httpx.ReadTimeout("silent"), TimedOut),
    ],
)
def test_an_error_of_the_connection(
    call: Callable[..., Any], trouble: httpx.RequestError, kind: type[KeymissError]
) -> None:
    error = raised_for(call, trouble)
    assert type(error) is kind
    assert error.__cause__ is trouble
    assert str(error).startswith("https://localhost:8080: ")
    assert "mine-of-the-call" in str(error)


def test_a_password_in_the_address_is_not_shown() -> None:
    url = f"http://me:secret@127.0.0.1:{free_port()}"
    with Client(url, retries=ONCE) as client, pytest.raises(Unreachable) as raised:
        client.live()
    assert "127.0.0.1" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=ONCE) as client, pytest.raises(Unreachable, match="refused"):
        client.live()


def test_a_service_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_s=0.2) as client, pytest.raises(TimedOut):
            client.live()
        with Client(url) as client, pytest.raises(TimedOut):
            client.live(timeout_s=0.1)


def test_a_service_that_hangs_up_is_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up_once() -> None:
            listening.accept()[0].close()
            there, _ = listening.accept()
            with there:
                there.recv(65536)
                body = b'{"status": "live"}'
                there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        thread = threading.Thread(target=hang_up_once)
        thread.start()
        with Client(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=patient(10)) as client:
            assert client.live().status == "live"
        thread.join(patient(10))


@by_both
def test_errors_can_be_pickled_and_copied(call: Callable[..., Any]) -> None:
    """As a process pool does with them."""
    for reply in (problem(429, errors=[1], headers={"Retry-After": "2"}), httpx.ReadTimeout("x"), ok([])):
        error = raised_for(call, reply)
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert (str(again), again.request_id) == (str(error), error.request_id)
            if isinstance(error, Refused):
                assert (again.problem, again.retry_after_s) == (error.problem, 2)
