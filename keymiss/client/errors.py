"""What a call can end with instead of a reply. `KeymissError` is the base of all.

KeymissError
  Refused           the service answered with an error
    BadRequest      what was sent cannot be used (400, 405, 408, 413, 414, 422, ...)
    NotAllowed      the admin key is missing or wrong (401), or the service has none (403)
    NotFound        no such article, concept, link, path (404)
    TooBusy         too many at once (429)
    Unavailable     no shard could answer, not ready, the API is away (503)
    Late            no shard answered in time (504)
    ServerFault     a fault of Keymiss or of what stands in front of it (500, 502, ...)
  Unreachable       no connection, a certificate that is not trusted, a connection that broke
    TimedOut        no reply within `timeout_s`
  UnexpectedReply   what came is not a reply of this API
"""

from __future__ import annotations

from http import HTTPStatus

from pydantic import JsonValue

from keymiss.api_shapes.problem import ProblemDetail


class KeymissError(Exception):
    """`request_id` is in the logs of every part that the request came to."""

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(message, request_id)  # what pickle makes it again from
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})"


class Unreachable(KeymissError):
    """No reply came, and none will. Its cause is httpx's error."""


class TimedOut(Unreachable):
    """No reply came in time; what was asked for may still be done."""


class UnexpectedReply(KeymissError):
    """A reply came that this API does not give: another service, a proxy's page, a broken body."""


class Refused(KeymissError):
    """The service answered with an error: a problem (RFC 9457), as docs/api.md lists them.

    `retry_after_s`: the seconds that the reply asks to wait; None when it does not say.
    """

    def __init__(self, problem: ProblemDetail, request_id: str, retry_after_s: float | None = None) -> None:
        said = f"{problem.status} {problem.title}"
        super().__init__(f"{said}: {problem.detail}" if problem.detail else said, request_id)
        self.args = (problem, request_id, retry_after_s)
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """HTTP's."""
        return self.problem.status

    @property
    def title(self) -> str:
        """What kind of error it is."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """What is wrong this time."""
        return self.problem.detail

    @property
    def members(self) -> dict[str, JsonValue]:
        """The problem's other members, as ``errors``, ``coverage`` or ``missing``."""
        return self.problem.model_extra or {}


class BadRequest(Refused):
    """What was sent cannot be used; `members` has ``errors``, one for each field."""


class NotAllowed(Refused):
    """The admin key is missing or wrong, or the service was started without one."""


class NotFound(Refused):
    """There is no such article, concept, link, dashboard or path."""


class TooBusy(Refused):
    """Too many questions at once."""


class Unavailable(Refused):
    """No shard could answer, the service is not ready, or it is away."""


class Late(Refused):
    """No shard answered in time."""


class ServerFault(Refused):
    """A fault of the service; its log has it, under `request_id`."""


BY_STATUS: dict[int, type[Refused]] = {
    HTTPStatus.UNAUTHORIZED: NotAllowed,
    HTTPStatus.FORBIDDEN: NotAllowed,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.TOO_MANY_REQUESTS: TooBusy,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Late,
}


def kind_of(status: int) -> type[Refused]:
    """The error for a status from 400 on."""
    return BY_STATUS.get(status, BadRequest if status < 500 else ServerFault)
