"""Every thread that runs gears functions has an event loop of its own for coroutine steps."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from keymiss.worker.functions.futures import GearsFuture
from keymiss.worker.functions.job_context import GearsError

_LOCAL = threading.local()
_LOOPS: dict[int, asyncio.AbstractEventLoop] = {}
"""By thread: to wake one."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_loop() -> asyncio.AbstractEventLoop:
    """The calling thread's loop, made on first use."""
    loop: asyncio.AbstractEventLoop | None = getattr(_LOCAL, "loop", None)
    if loop is None:
        loop = _LOCAL.loop = asyncio.new_event_loop()
        _LOOPS[threading.get_ident()] = loop
    return loop


def kept_with(loop: asyncio.AbstractEventLoop) -> dict[Any, Any]:
    """What the calling thread keeps for as long as it runs this loop and no other."""
    known: tuple[asyncio.AbstractEventLoop, dict[Any, Any]] | None = getattr(_LOCAL, "kept", None)
    if known is None or known[0] is not loop:
        known = _LOCAL.kept = (loop, {})
    return known[1]


def wake(thread: int) -> None:
    """Makes a thread that waits in its loop run a line of Python."""
    loop = _LOOPS.get(thread)
    if loop is not None:
        with suppress(RuntimeError):  # closed by now
            loop.call_soon_threadsafe(lambda: None)


def resolve(value: Any) -> Any:
    """`value`, or what it comes to if it is awaitable, or a future (`futures`)."""
    if isinstance(value, GearsFuture):
        promise = value.returned()
        del value  # when nobody else has it, nobody will end it
        return promise.wait()
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return thread_loop().run_until_complete(wait())


def at_once(value: Any, what: str) -> Any:
    """`value`, of a function that must not wait. GearsError if it would."""
    if isinstance(value, GearsFuture):
        value.returned()
        raise GearsError(f"Step does not support async: {what}")
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise GearsError(f"coroutine are not allow on {what}")
    return value


async def as_they_end(
    work: Mapping[Coroutine[Any, Any, Result], Item], held_s: float
) -> AsyncIterator[list[tuple[Item, Result | Exception]]]:
    """Runs all of it, and gives what each came to as it ends, together what ends within `held_s`."""
    if len(work) == 1:  # needs no task
        ((coroutine, item),) = work.items()
        try:
            yield [(item, await coroutine)]
        except Exception as error:
            yield [(item, error)]
        return
    running = {asyncio.ensure_future(coroutine): item for coroutine, item in work.items()}
    left = set(running)
    while left:
        ended, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        if left:
            more, left = await asyncio.wait(left, timeout=held_s)
            ended |= more
        yield [(item, _outcome(task)) for task, item in running.items() if task in ended]


def _outcome(task: asyncio.Task[Result]) -> Result | Exception:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, Exception):
        return error
    raise error


def cancel_leftovers() -> int:
    """Cancels the tasks a finished function left behind in this thread's loop; how many."""
    loop: asyncio.AbstractEventLoop | None = getattr(_LOCAL, "loop", None)
    tasks = asyncio.all_tasks(loop) if loop is not None else set()
    if loop is not None and tasks:
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    return len(tasks)


def close_thread_loop() -> None:
    """Closes the calling thread's loop; for threads that end before the process."""
    loop: asyncio.AbstractEventLoop | None = getattr(_LOCAL, "loop", None)
    if loop is not None:
        loop.close()
        _LOCAL.loop = None
        _LOOPS.pop(threading.get_ident(), None)
