"""How long a model run of the current job may take, and how urgent it is."""

from __future__ import annotations

from dataclasses import dataclass

from keymiss.worker.functions.job_context import CURRENT
from keymiss.worker.job import Job, JobKind

AFTERWARDS_S = 0.3
"""So much after the job's time, so that its client always gets the shard's TIMEOUT, and not sometimes another
error from here. The shard looks ten times a second."""

SETTINGS = {
    JobKind.MISS: "keymiss.miss-timeout-ms",
    JobKind.MODEL: "TIMEOUT of AI.MODELEXECUTE, or keymiss.model-timeout-ms",
    JobKind.TORCHSCRIPT: "TIMEOUT of AI.SCRIPTEXECUTE, or keymiss.model-timeout-ms",
    JobKind.DAG: "TIMEOUT of AI.DAGEXECUTE, or keymiss.model-timeout-ms",
    JobKind.SCRIPT: "keymiss.script-timeout-ms",
    JobKind.COMMAND: "keymiss.script-timeout-ms of a trigger, keymiss.miss-timeout-ms of a hook",
    JobKind.UNREGISTER: "keymiss.script-timeout-ms",
    JobKind.GEARS: "keymiss.script-timeout-ms",
    JobKind.LOOK: "keymiss.script-timeout-ms",
    JobKind.SCAN: "keymiss.script-timeout-ms",
}


@dataclass(frozen=True)
class RunTerms:
    """`ends_at_s`: of time.monotonic(); None: after the worker's `--model-limit-s`. `setting`: what that time
    comes from. `urgent`: somebody waits."""

    ends_at_s: float | None = None
    setting: str = ""
    urgent: bool = True


def current_terms() -> RunTerms:
    """Those of the job that the calling code runs for: it is worth nothing when the job's time is over."""
    context = CURRENT.get()
    if context is None or context.job is None:
        return RunTerms()
    urgent = context.job.kind is not JobKind.EVENT
    if context.job.is_unattended or not all(job.remaining_ms for job in context.run):
        return RunTerms(urgent=urgent)
    return RunTerms(max(map(_end_of, context.run)), SETTINGS.get(context.job.kind, ""), urgent)


def _end_of(job: Job) -> float:
    return job.pulled_at_s + job.remaining_ms / 1000 + AFTERWARDS_S
