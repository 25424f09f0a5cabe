"""Sentences asked on many shards at once, each on the master that owns it, with one time limit for all.

Every question sent ends in exactly one `Outcome`. What is not back when the time is up is cancelled,
its connection closed: the module then drops the job if no worker has begun it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError, ResponseError

from keymiss.api.questions.missed_key import ask_key
from keymiss.api.shard_status import Status, status_of
from keymiss.cluster.shard_map import ShardMap
from keymiss.keys import span_key
from keymiss.retrieval import Candidate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sentence. ``raw``: the value for ANSWERED, else None; ``cached``: it was there."""

    shard: str
    candidate: Candidate
    status: Status
    raw: bytes | None
    took_ms: float
    cached: bool = False


async def ask_all(
    shards: ShardMap, candidates: Mapping[str, Sequence[Candidate]], question: str, time_limit_s: float
) -> list[Outcome]:
    """One outcome for each candidate, in their order; takes ``time_limit_s`` at most."""
    deadline = asyncio.get_running_loop().time() + time_limit_s
    asked = [(tag, candidate) for tag, found in candidates.items() for candidate in found]
    return list(await asyncio.gather(*(_ask(shards, tag, each, question, deadline) for tag, each in asked)))


async def _ask(shards: ShardMap, tag: str, candidate: Candidate, question: str, deadline: float) -> Outcome:
    key = span_key(candidate.article, candidate.tag, candidate.idx, question)
    start = time.perf_counter()
    raw: bytes | None = None
    cached = False
    try:
        async with asyncio.timeout_at(deadline):
            raw, cached = await ask_key(shards, key)
        # nil: plain Redis's own reply, so no registration asks for this key on that shard
        status = Status.ANSWERED if raw is not None else Status.FAILED
    except (RedisError, OSError, TimeoutError) as error:
        status = status_of(error)
        log.info("shard {%s} %s: %s: %s", tag, candidate.sentencekey, status, _without_the_question(error))
    return Outcome(tag, candidate, status, raw, round((time.perf_counter() - start) * 1000, 2), cached)


def _without_the_question(error: BaseException) -> str:
    """For the log. A function's own words may repeat the question: its line is in the worker's log."""
    if isinstance(error, ResponseError):
        return (str(error).split(maxsplit=1) or [""])[0]
    return str(error) or type(error).__name__
