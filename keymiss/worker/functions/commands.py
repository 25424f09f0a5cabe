"""Runs a CommandReader's flow: RG.TRIGGER, or in the place of a command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from keymiss.cluster.topology import Shard
from keymiss.worker.functions.execution import Flow, run_flow
from keymiss.worker.functions.hooks import one_result
from keymiss.worker.functions.job_context import CURRENT, JobContext, ReplySlot
from keymiss.worker.functions.records import decode
from keymiss.worker.functions.scripts import all_shards
from keymiss.worker.job import Job

HOOK = "hook"
"""The event of a job that is a hooked command."""


def run_command(context: JobContext, job: Job) -> Any:
    """What the client gets: the results of a trigger, the one result of a hook, or what the function said by
    override_reply. The first error is raised when all has run."""
    registration = context.services.scripts.registration(context, job.registration_id)
    slot = ReplySlot()
    is_hook = job.event == HOOK
    here = replace(
        context,
        reply=slot,
        upload=registration.upload,
        hook=job.registration_id if is_hook else None,
    )
    words = [decode(word) for word in job.payload]
    errors: list[Exception] = []

    def flow_of(shard: Shard) -> Flow:
        mine = context.services.scripts.registration(here.on(shard), job.registration_id)
        return Flow(reader, mine.steps)

    def reader(_at: JobContext) -> Iterator[Any]:
        return iter([list(words)])

    token = CURRENT.set(here)
    try:
        results = run_flow(here, all_shards(here, registration.mode != "async"), flow_of, errors.append)
    finally:
        CURRENT.reset(token)
    if errors:
        raise errors[0]
    if slot.is_set:
        return slot.value
    return one_result(results) if is_hook else results
