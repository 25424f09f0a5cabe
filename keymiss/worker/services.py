"""What a job needs of the worker, in one object."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keymiss.cluster.shard_connection import ThreadConnections
    from keymiss.cluster.topology import Shard
    from keymiss.worker.functions.scripts import ScriptStore
    from keymiss.worker.model_runner import ModelRunner
    from keymiss.worker.not_kept import NotKept


@dataclass
class Services:
    """`masters` gives the shards of the cluster; `waiting` is entered around a command that may wait
    for another job, so that the pool lets another thread work meanwhile; `not_kept` counts what shards
    refuse to keep; `missed` is told of a shard whose event failed for a reason that passes."""

    connections: ThreadConnections
    masters: Callable[[], list[Shard]]
    models: ModelRunner
    scripts: ScriptStore
    waiting: Callable[[], AbstractContextManager[None]]
    not_kept: NotKept
    missed: Callable[[Shard], None] = lambda shard: None
