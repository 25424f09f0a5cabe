"""`call_next`: what a function that runs in the place of a command calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keymiss.worker.functions.execution import Flow, run_flow
from keymiss.worker.functions.job_context import CURRENT, GearsError, JobContext, current
from keymiss.worker.functions.records import decode

NO_HOOK = "Can not get CommandHook ctx: call_next works in a function that was registered with hook="


def call_next(*args: Any) -> Any:
    """The hooked command with these arguments: the next hook of it, or the command itself. Its reply."""
    context = current()
    if context.hook is None or context.job is None:
        raise GearsError(NO_HOOK)
    command = (context.job.payload[0], *args)
    context.ran_commands()
    following = context.connection.command("KM.NEXTHOOK", context.hook, *command)
    if following is None:
        return decode(context.connection.command(*command))
    return _run_hook(replace(context, hook=following.decode()), [decode(context.job.payload[0]), *args])


def _run_hook(context: JobContext, words: list[Any]) -> Any:
    assert context.hook is not None
    registration = context.services.scripts.registration(context, context.hook)
    here = replace(context, upload=registration.upload)
    flow = Flow(lambda _at: iter([words]), registration.steps)
    token = CURRENT.set(here)
    try:
        return one_result(run_flow(here, [here.shard], lambda _shard: flow, _raise))
    finally:
        CURRENT.reset(token)


def one_result(results: Sequence[Any]) -> Any:
    """What a hook gives its client."""
    if len(results) != 1:
        raise GearsError("Command hook must return exactly one result")
    return results[0]


def _raise(error: Exception) -> None:
    raise error
