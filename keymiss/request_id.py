"""The id that follows one request through every log: nginx, the API, the shards' jobs, the worker.

A client may send its own as ``X-Request-ID``; what is not of the form of `USABLE` is replaced by a new one.
nginx does the same (nginx/nginx.conf.template).
"""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-ID"
USABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""Long enough to be unlike another's, short enough for a log's line, and nothing that could end one."""

current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""That of the request which is being handled; None outside of one."""


def usable(given: str) -> bool:
    """Whether a client's id may be used."""
    return USABLE.fullmatch(given) is not None


def new_request_id() -> str:
    """32 hexadecimal digits."""
    return uuid.uuid4().hex


def request_id_from(given: str | None) -> str:
    """The client's id if it may be used, else a new one."""
    return given if given is not None and usable(given) else new_request_id()
