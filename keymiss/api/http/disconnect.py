"""A client that closes its connection ends the work that was done for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import Request

from keymiss.api.http.problems import problem_response

T = TypeVar("T")


class ClientLeft(Exception):
    """Nobody reads the reply any more."""


async def unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """Awaits ``work``; a client that closes its connection cancels it, down to the GETs on the shards."""
    task = asyncio.ensure_future(work)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await task
    except asyncio.CancelledError:
        if watcher.done() and not watcher.cancelled():
            raise ClientLeft from None
        raise
    finally:
        watcher.cancel()
        task.cancel()


async def on_client_left(_request: Request, _error: Exception) -> Any:
    """Goes nowhere; 499 is what the access log shows, as nginx's does."""
    return problem_response(499, "Client left", "The client closed its connection.")
