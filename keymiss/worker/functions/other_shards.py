"""For gears functions: commands on another shard than the job's, by key.

from keymiss.worker.functions.other_shards import execute_at, tag_of
"""

from __future__ import annotations

from typing import Any

from keymiss.cluster.topology import NoShard, shard_of
from keymiss.keys import slot_of
from keymiss.worker.functions.job_context import GearsError, JobContext, current
from keymiss.worker.functions.records import decode


class NoOwnerError(GearsError):
    """A slot that no shard serves: the cluster is changing, or a part of it is down."""


def _owner(key: str) -> JobContext:
    context = current()
    if context.shard.owns(slot_of(key)):
        return context
    try:
        return context.on(shard_of(context.services.masters(), key))
    except NoShard as error:
        raise NoOwnerError(f"{error} of {key}") from None


def execute_at(key: str, *command: Any) -> Any:
    """`execute` on the shard that owns `key`. NoOwnerError when nobody does; redis's errors are raised, MOVED
    too (the masters are looked up every second: do it again)."""
    return decode(_owner(key).connection.command(*command))


def tag_of(key: str) -> str:
    """The hash tag of the shard that owns `key`."""
    return _owner(key).shard.tag
