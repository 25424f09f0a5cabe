"""What a job needs of the worker, in one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keymiss.cluster.shard_connection import ThreadConnections
    from keymiss.cluster.topology import Shard
    from keymiss.worker.functions.builder import Run
    from keymiss.worker.functions.job_context import JobContext
    from keymiss.worker.functions.scripts import ScriptStore
    from keymiss.worker.jobs.limits import JobLimits
    from keymiss.worker.model_runner import ModelRunner
    from keymiss.worker.not_kept import NotKept
    from keymiss.worker.script_runner import ScriptRunner


@dataclass
class Services:
    """`masters` gives the shards of the cluster; `waiting` is entered around a command that may wait
    for another job, so that the pool lets another thread work meanwhile; `not_kept` counts what shards
    refuse to keep; `limits` ends what takes too long or is aborted; `start` runs a flow beside a function;
    `max_idle_s`: a run waits so long for other shards; `missed` is told of a shard whose event failed for a
    reason that passes; `is_moving` says whether a shard's slots move, so that what lay under its tag may be
    missing."""

    connections: ThreadConnections
    masters: Callable[[], list[Shard]]
    models: ModelRunner
    torch_scripts: ScriptRunner
    scripts: ScriptStore
    waiting: Callable[[], AbstractContextManager[None]]
    not_kept: NotKept
    limits: JobLimits
    start: Callable[[JobContext, Run], Awaitable[Any]]
    max_idle_s: Callable[[JobContext], float]
    missed: Callable[[Shard], None] = lambda shard: None
    is_moving: Callable[[Shard], bool] = lambda shard: False
