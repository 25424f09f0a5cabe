"""Every error a client can see: problem+json (RFC 9457), from one table exception -> status.

A problem's text is written here or by the code that raises it, never taken from an unexpected
exception: what a 500 was about stands in the log only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from keymiss.request_id import current_request_id

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = {429: 1, 503: 5, 504: 5}
"""Every reply of these statuses says how long to wait: until a queue has moved on; until a worker has started
again or a replica has taken over; as long as a question may take, after which its answers may be cached.
nginx/nginx.conf.template has the same."""


class Problem(Exception):
    """An error with a text for the client. ``extra`` becomes members of the problem object."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    headers: ClassVar[dict[str, str]] = {}


class NotJson(Problem):
    """The body is not a JSON text."""


class BodyTooLarge(Problem):
    """The body is over the limit."""


class BodyLate(Problem):
    """The body did not arrive within its time limit; the rest of it is not waited for."""

    headers: ClassVar[dict[str, str]] = {"Connection": "close"}


class BadQuestion(Problem):
    """JSON, but not a question we can ask. ``errors`` lists what is wrong, field by field."""


class BadParameters(Problem):
    """A part of the address (path or query) is not what it may be. ``errors`` as BadQuestion's."""


class UnusableArticle(Problem):
    """JSON, but not an article in the CORD-19 format."""


class NoSuchArticle(Problem):
    """No article of that name is stored."""


class NoSuchConcept(Problem):
    """The concept table does not have the concept."""


class NoSuchEdge(Problem):
    """No sentence mentions both concepts."""


class NoAdminKey(Problem):
    """What was asked needs the admin key, and it did not come, or another came."""

    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "APIKey"}


class NotAllowed(Problem):
    """What was asked is for administrators, and this service has no admin key."""


class TooManyExcluded(Problem):
    """The client's cookie is full."""


class TooManyQuestions(Problem):
    """The API's or every shard's queue is full."""


class NoShardAnswered(Problem):
    """Every shard failed or none can be reached."""


class NotReady(NoShardAnswered):
    """The readiness check found something missing."""


class AllLate(Problem):
    """No shard answered within the time limit."""


class NoSuchDashboard(Problem):
    """No dashboard of that uid is committed."""


class NoSuchPanel(Problem):
    """The dashboard has no panel of that id."""


class TooManyPanels(TooManyQuestions):
    """Too many panels are being asked for."""


class NoPrometheus(Problem):
    """The service was started without a Prometheus to ask: that needs a new start."""

    headers: ClassVar[dict[str, str]] = {"Retry-After": "60"}


class PrometheusAway(Problem):
    """Prometheus cannot be reached."""


class PrometheusFailed(Problem):
    """Prometheus refused a query, or its reply cannot be used."""


class PrometheusLate(Problem):
    """Prometheus did not answer within the time limit."""


TABLE: dict[type[Problem], tuple[int, str]] = {
    NotJson: (400, "The body is not JSON"),
    BodyLate: (408, "The body did not arrive in time"),
    BodyTooLarge: (413, "The body is too large"),
    BadQuestion: (422, "The question is invalid"),
    BadParameters: (422, "A parameter of the address is invalid"),
    UnusableArticle: (422, "The article is invalid"),
    NoSuchArticle: (404, "There is no such article"),
    NoSuchConcept: (404, "There is no such concept"),
    NoSuchEdge: (404, "There is no such link"),
    NoAdminKey: (401, "The admin key is missing or wrong"),
    NotAllowed: (403, "Not allowed"),
    TooManyExcluded: (409, "Too many concepts are excluded"),
    TooManyQuestions: (429, "Too many questions at once"),
    NoShardAnswered: (503, "No shard could answer"),
    NotReady: (503, "Not ready"),
    AllLate: (504, "No shard answered in time"),
    NoSuchDashboard: (404, "There is no such dashboard"),
    NoSuchPanel: (404, "There is no such panel"),
    TooManyPanels: (429, "Too many panels at once"),
    NoPrometheus: (503, "Prometheus is not configured"),
    PrometheusAway: (503, "Prometheus cannot be reached"),
    PrometheusFailed: (502, "Prometheus could not answer"),
    PrometheusLate: (504, "Prometheus did not answer in time"),
}


Faults = Iterable[Mapping[str, Any]]


def listed(faults: Faults) -> list[dict[str, str]]:
    """What pydantic found wrong, as members field and message; the value that came is not repeated."""
    errors = []
    for fault in faults:
        field = ".".join(str(part) for part in fault["loc"] if part not in ("query", "path")) or "body"
        errors.append({"field": field, "message": str(fault["msg"]).removeprefix("Value error, ")})
    return errors


def in_a_line(errors: Iterable[Mapping[str, str]]) -> str:
    """The faults of `listed` as one text."""
    return "; ".join(f"{error['field']}: {error['message']}" for error in errors)


def problem_response(
    status: int, title: str, detail: str, headers: dict[str, str] | None = None, **extra: Any
) -> JSONResponse:
    """One RFC 9457 object; ``type`` is about:blank, so the status says what kind it is. ``headers`` are
    taken before those that the status has by itself."""
    if status in RETRY_AFTER_S:
        headers = {"Retry-After": str(RETRY_AFTER_S[status])} | (headers or {})
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **extra}
    request_id = current_request_id.get()
    if request_id is not None:
        body["request_id"] = request_id
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


async def on_problem(_request: Request, error: Exception) -> JSONResponse:
    """A Problem of the table."""
    assert isinstance(error, Problem)
    status, title = TABLE[type(error)]
    return problem_response(status, title, error.detail, error.headers, **error.extra)


async def on_bad_parameters(request: Request, error: Exception) -> JSONResponse:
    """What the framework finds wrong with parameters of the path and the query."""
    assert isinstance(error, RequestValidationError)
    errors = listed(error.errors())
    return await on_problem(request, BadParameters(in_a_line(errors), errors=errors))


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """What the router says: no such path, wrong method."""
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {title}"
    return problem_response(error.status_code, title, detail, dict(error.headers or {}))


async def on_unexpected(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours. The text of the exception goes to the log, never to the client."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(500, "Internal error", "The service failed; its log says why.")


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem."""
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_bad_parameters)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_unexpected)
