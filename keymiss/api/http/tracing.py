"""Around every request: its id, and what the metrics say of it.

Plain ASGI: starlette's BaseHTTPMiddleware would run the application in another task, which hides a client's
leaving from it. `TracedApp` puts it outside of everything else, so that a 500 has an id and is counted too.
"""

from __future__ import annotations

import time

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keymiss.api.http.cross_origin import CrossOrigin
from keymiss.api.metrics import ApiMetrics
from keymiss.request_id import HEADER, current_request_id, request_id_from

NO_REPLY = 500
"""The code of a request that ended without one: the server closes its connection."""


class Tracing:
    """Sets the request's id, puts it on the reply, counts and times the request."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else (the lifespan) passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_from(Headers(scope=scope).get(HEADER))
        # Not reset at the end: a server runs each request in a context of its own, and what it says of this
        # one afterwards carries the id too.
        current_request_id.set(request_id)
        start_s = time.perf_counter()
        code = NO_REPLY

        async def send_with_id(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            took_s = time.perf_counter() - start_s
            self._metrics.request_ended(route_of(scope), scope["method"], code, took_s)


def route_of(scope: Scope) -> str | None:
    """The path's template, as ``/articles/{article}``; None when no route took the request."""
    path = getattr(scope.get("route"), "path_format", None)
    return path if isinstance(path, str) else None


class TracedApp(FastAPI):
    """An application whose every request is traced; set ``metrics`` before it is first called.

    ``cors_origins``: whose pages may ask."""

    metrics: ApiMetrics
    cors_origins: tuple[str, ...] = ()

    def build_middleware_stack(self) -> ASGIApp:
        """starlette's, and around it `Tracing`: middleware that is added goes inside the handler of a 500."""
        inner = super().build_middleware_stack()
        return Tracing(CrossOrigin(inner, self.cors_origins) if self.cors_origins else inner, self.metrics)
