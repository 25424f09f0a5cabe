"""How the asking of a shard ended, and what an error of it means."""

from __future__ import annotations

import enum

from redis.exceptions import TimeoutError as RedisTimeoutError


class Status(enum.StrEnum):
    """How the asking of one sentence ended."""

    ANSWERED = "answered"
    LATE = "late"  # not within the time limit, ours or the module's
    BUSY = "busy"  # the shard's queue is full
    FAILED = "failed"  # anything else: no worker, the function raised, the shard is away


def status_of(error: BaseException) -> Status:
    """What an error means for the one who asked. The module's errors begin with a word that says it."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return Status.LATE
    word = (str(error).split(maxsplit=1) or [""])[0]
    return {"TIMEOUT": Status.LATE, "BUSY": Status.BUSY}.get(word, Status.FAILED)
