"""Waiting in a coroutine for what another thread ends."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from keymiss.worker.functions.interruption import Shield

Result = TypeVar("Result")


async def outcome_of(future: Future[Result]) -> Result:
    """What the future comes to; it is cancelled with the caller. (asyncio's own way takes half as long again,
    and an interruption could leave the future's lock held, at which the other thread would wait for ever.)"""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # closed by now
            loop.call_soon_threadsafe(_end, waiter)

    with Shield():
        future.add_done_callback(wake)
    try:
        await waiter
    except asyncio.CancelledError:
        with Shield():
            future.cancel()
        raise
    return future.result()


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
