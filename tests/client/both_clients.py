"""A call by either client, in front of a service that is a function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from keymiss import AsyncClient, Client
from keymiss.client import Retries

ONCE = Retries(attempts=1)
AT_ONCE = Retries(first_wait_s=0)
LIVE = {"status": "live"}
Service = Callable[[httpx.Request], httpx.Response]


def call_blocking(service: Service, method: str, *arguments: Any, client: Any = None, **options: Any) -> Any:
    """``Client(**client).method(*arguments, **options)``"""
    with Client(transport=httpx.MockTransport(service), **(client or {})) as made:
        return getattr(made, method)(*arguments, **options)


def call_asyncio(service: Service, method: str, *arguments: Any, client: Any = None, **options: Any) -> Any:
    """The same of `AsyncClient`."""

    async def call() -> Any:
        async with AsyncClient(transport=httpx.MockTransport(service), **(client or {})) as made:
            return await getattr(made, method)(*arguments, **options)

    return asyncio.run(call())


BOTH = [call_blocking, call_asyncio]


class Scripted:
    """A service that gives these replies one after the other, or raises them; `seen` are the requests."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self._replies = list(replies)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


def ok(body: Any = LIVE, **headers: str) -> httpx.Response:
    return httpx.Response(200, json=body, headers=headers)


def problem(status: int, title: str = "A title", detail: str = "A detail", **more: Any) -> httpx.Response:
    """`headers`: of the reply; the rest are members of the problem."""
    headers = {"Content-Type": "application/problem+json", **more.pop("headers", {})}
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return httpx.Response(status, content=json.dumps(body), headers=headers)
