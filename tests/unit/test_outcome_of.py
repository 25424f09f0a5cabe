"""A coroutine waits for what another thread ends."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from keymiss.worker.functions.event_loops import as_they_end
from keymiss.worker.functions.outcomes import outcome_of


async def test_a_result_an_error_and_what_was_there_before() -> None:
    there: Future[int] = Future()
    there.set_result(1)
    assert await outcome_of(there) == 1
    later: Future[int] = Future()
    threading.Timer(0.01, lambda: later.set_result(2)).start()
    assert await outcome_of(later) == 2
    failing: Future[int] = Future()
    threading.Timer(0.01, lambda: failing.set_exception(ValueError("no"))).start()
    with pytest.raises(ValueError, match="no"):
        await outcome_of(failing)


async def test_who_waits_no_more_takes_the_future_along() -> None:
    future: Future[int] = Future()
    waits = asyncio.ensure_future(outcome_of(future))
    await asyncio.sleep(0)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert future.cancelled()


def test_a_loop_that_was_closed_is_not_woken(caplog: pytest.LogCaptureFixture) -> None:
    future: Future[int] = Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(outcome_of(future))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    future.set_result(1)
    assert "exception" not in caplog.text
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be left


async def test_one_alone_ends_as_many_do() -> None:
    async def fine() -> int:
        return 1

    async def bad() -> int:
        raise ValueError("no")

    assert [one async for one in as_they_end({fine(): "a"}, 0.0)] == [[("a", 1)]]
    ((item, error),) = [pair async for ended in as_they_end({bad(): "b"}, 0.0) for pair in ended]
    assert item == "b"
    assert isinstance(error, ValueError)
    both = {item: out async for ended in as_they_end({fine(): "a", bad(): "b"}, 0.0) for item, out in ended}
    assert both["a"] == 1
    assert isinstance(both["b"], ValueError)
