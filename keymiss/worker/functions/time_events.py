"""Time events: a function that runs every so many seconds on the shard that its script ran on. It is a
registration, so it lives on after a restart and a failover. With a key it lives as long as that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keymiss.worker.functions.builder import Registration
from keymiss.worker.functions.job_context import GearsError, current

MAX_PERIOD_S = 366 * 86400

READER = "TimeEvent"


def register_time_event(period: Any, callback: Callable[[], Any], key: Any = None) -> bool:
    """Every `period` seconds. With a `key`, which is made: as long as that is there. False if it is there
    already."""
    if not callable(callback):
        raise GearsError("callback must be a function")
    if isinstance(period, bool) or not isinstance(period, int) or not 1 <= period <= MAX_PERIOD_S:
        raise GearsError(f"time argument must be a long: seconds, 1 or more, not {period!r}")
    if key is not None and (not isinstance(key, str) or not key):
        raise GearsError(f"key argument must be a string that is not empty, not {key!r}")
    context = current()
    if context.recorder is None:
        raise GearsError("registerTE() works at the top level of a script only")
    if key is not None and not context.loading and context.connection.command("EXISTS", key):
        return False
    upload = context.recorder.upload
    context.recorder.add(
        lambda id_, ordinal: Registration(
            id=id_,
            upload=upload,
            ordinal=ordinal,
            reader=READER,
            desc="",
            mode="async_local",
            prefix=key or "",
            on_registered=None,
            steps=(),
            told={"periodMS": period * 1000},
            callback=callback,
        )
    )
    return True
