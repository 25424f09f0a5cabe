"""Functions are interrupted from another thread, but not behind a shield, and never after they ended."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from keymiss.worker.functions.event_loops import resolve
from keymiss.worker.functions.interruption import Interrupted, Interruption, Shield, run_interruptibly
from keymiss.worker.functions.job_context import GearsError
from keymiss.worker.functions.outcomes import outcome_of
from tests.patience import patient


def run(body: Any, times: int = 1) -> Any:
    """What comes of it when it is interrupted as soon as it sets the event that it is given."""
    ready = threading.Event()

    def interrupt(interruption: Interruption) -> None:
        def other() -> None:
            ready.wait(patient(10))
            for _ in range(times):
                interruption.interrupt("the reason")
                time.sleep(0.05)

        threading.Thread(target=other, daemon=True).start()

    return run_interruptibly(interrupt, lambda: body(ready))


def loop(ready: threading.Event) -> None:
    ready.set()
    while True:
        pass


def test_a_loop_ends_with_the_reason() -> None:
    for _ in range(3):
        with pytest.raises(GearsError, match="the reason"):
            run(loop)


def test_one_that_has_ended_is_left_alone() -> None:
    made: list[Interruption] = []
    assert run_interruptibly(made.append, lambda: 7) == 7
    made[0].interrupt("too late")
    assert sum(range(100_000)) > 0
    assert (made[0].is_open, made[0].text) == (False, "")


def test_nothing_stops_behind_a_shield() -> None:
    """The interruption is tried again; then it is outside."""
    rounds = []

    def body(ready: threading.Event) -> None:
        with Shield():
            ready.set()
            until_s = time.monotonic() + 0.3
            while time.monotonic() < until_s:
                pass
            rounds.append(1)
        while True:
            with Shield():
                rounds.append(1)
                rounds.append(2)

    with pytest.raises(GearsError, match="the reason"):
        run(body, times=100)
    assert len(rounds) % 2 == 1


def test_no_shield_is_left_behind() -> None:
    def body(ready: threading.Event) -> None:
        try:
            loop(ready)
        except Interrupted:
            with Shield():
                pass
            raise

    with pytest.raises(GearsError, match="the reason"):
        run(body)
    with Shield():
        pass
    with pytest.raises(GearsError, match="the reason"):
        run(loop)


def test_what_another_thread_ends_is_not_left_locked() -> None:
    """The lock of a future is a Python object, whose taking an interruption can come right after."""
    future: Future[str] = Future()
    taken = threading.Event()

    class Slow(threading.Condition):
        def __enter__(self) -> bool:
            got = super().__enter__()
            if threading.current_thread() is mine and not taken.is_set():
                taken.set()
                ends_s = time.monotonic() + 0.2
                while time.monotonic() < ends_s:
                    pass
            return got

    mine = threading.current_thread()
    future._condition = Slow()
    with pytest.raises(GearsError, match="the reason"):
        run(lambda ready: resolve(_when_locked(future, taken, ready)), times=10)
    ender = threading.Thread(target=future.set_result, args=("done",), daemon=True)
    ender.start()
    ender.join(patient(5))
    assert not ender.is_alive()


async def _when_locked(future: Future[str], taken: threading.Event, ready: threading.Event) -> str:
    threading.Thread(target=lambda: (taken.wait(patient(10)), ready.set()), daemon=True).start()
    return await outcome_of(future)
