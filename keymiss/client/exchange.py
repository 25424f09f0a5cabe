"""One call from its request to its reply, with all that may happen in between, but without doing any of it.

`exchange` is a generator: it yields what is to be done next, and is told how it went. So `blocking` and
`asynchronous` share everything but the doing.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from keymiss.api_shapes.problem import ProblemDetail
from keymiss.client.calls import Call, R
from keymiss.client.errors import (
    KeymissError,
    Refused,
    TimedOut,
    TooBusy,
    Unavailable,
    UnexpectedReply,
    Unreachable,
    kind_of,
)
from keymiss.client.retries import Retries, retry_after_s

MAX_SHOWN_CHARACTERS = 200  # of a reply that is not understood


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request, and `send` its response here or `throw` httpx's error."""


@dataclass(frozen=True, slots=True)
class Wait:
    """So long."""

    s: float


Exchange = Generator[Send | Wait, httpx.Response | None, R]


def exchange(
    call: Call[R], request_id: str, retries: Retries, clock: Callable[[], float] = time.monotonic
) -> Exchange[R]:
    """The reply of `call`. Raises KeymissError."""
    start_s = clock()
    attempt = 1
    while True:
        cause: httpx.RequestError | None = None
        try:
            response = yield Send()
            assert response is not None
            return read(response, call.reply, request_id)
        except httpx.RequestError as error:
            cause, failure = error, failed(error, request_id)
        except KeymissError as refused:
            failure = refused
        wait_s = None
        if may_repeat(failure, cause, call.idempotent):
            asked_s = failure.retry_after_s if isinstance(failure, Refused) else None
            wait_s = retries.wait_s(attempt, clock() - start_s, asked_s)
        if wait_s is None:
            raise failure from cause
        yield Wait(wait_s)
        attempt += 1


def read(response: httpx.Response, reply: type[R], request_id: str) -> R:
    """The reply, or what the service said instead. Raises Refused, UnexpectedReply."""
    request_id = response.headers.get("X-Request-ID") or request_id
    if response.is_error:
        raise refusal(response, request_id)
    if not response.is_success:
        where = f" to {response.headers['Location']}" if "Location" in response.headers else ""
        raise UnexpectedReply(f"{response.status_code}{where}: redirects are not followed", request_id)
    try:
        return reply.model_validate_json(response.content).of_request(request_id)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        wrong = f"{where}: {first['msg']}"
        raise UnexpectedReply(f"{wrong}; {_described(response)}", request_id) from None


def refusal(response: httpx.Response, request_id: str) -> Refused:
    """The problem of the body. A proxy of another kind may write none: its status says what it is."""
    status = response.status_code
    try:
        problem = ProblemDetail.model_validate_json(response.content)
        if problem.status != status:
            problem = problem.model_copy(update={"status": status})
    except ValidationError:
        title = response.reason_phrase or "Error"
        problem = ProblemDetail.model_validate(
            {"title": title, "status": status, "detail": _described(response)}
        )
    return kind_of(status)(problem, request_id, retry_after_s(response.headers.get("Retry-After")))


def failed(error: httpx.RequestError, request_id: str) -> KeymissError:
    """httpx's error as one of ours."""
    if isinstance(error, httpx.DecodingError):
        return UnexpectedReply(f"the body cannot be decoded: {error}", request_id)
    kind = TimedOut if isinstance(error, httpx.TimeoutException) else Unreachable
    url = error.request.url
    said = str(error) or type(error).__name__
    return kind(f"{url.scheme}://{url.netloc.decode()}: {said}", request_id)


def may_repeat(failure: KeymissError, cause: httpx.RequestError | None, idempotent: bool) -> bool:
    """Whether repeating may help, and does no harm."""
    if cause is None:
        return isinstance(failure, TooBusy) or (isinstance(failure, Unavailable) and idempotent)
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
        return not _distrusted(cause)
    return isinstance(cause, httpx.NetworkError | httpx.RemoteProtocolError) and idempotent


def _distrusted(error: BaseException | None) -> bool:
    """Whether the certificate was refused: it will not be better the next time."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _described(response: httpx.Response) -> str:
    media_type = response.headers.get("Content-Type", "no content type")
    return f"the reply is no reply of Keymiss ({media_type}): {response.text[:MAX_SHOWN_CHARACTERS]!r}"
