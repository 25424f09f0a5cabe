"""Sentences asked on many shards at once, those of a shard in one request, with one time limit for all.

Every question sent ends in exactly one `Outcome`. A shard gives what is ready shortly before the time is up;
a request that is not answered even then is cancelled, its connection closed: the module then drops the jobs
that no worker has begun.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError, ResponseError

from keymiss.api.questions.missed_key import MAX_KEYS, Missed, ask_keys
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
    requests: list[tuple[str, list[Candidate]]] = []
    for tag, found in candidates.items():
        by_slot: dict[str, list[Candidate]] = {}  # more than one after slots have moved
        for candidate in found:
            by_slot.setdefault(candidate.tag, []).append(candidate)
        requests += [(tag, some) for together in by_slot.values() for some in _requests_of(together)]
    asked = await asyncio.gather(*(_ask(shards, tag, found, question, deadline) for tag, found in requests))
    outcomes = {(each.shard, each.candidate): each for together in asked for each in together}
    return [outcomes[tag, candidate] for tag, found in candidates.items() for candidate in found]


def _requests_of(found: list[Candidate]) -> Iterator[list[Candidate]]:
    for at in range(0, len(found), MAX_KEYS):
        yield found[at : at + MAX_KEYS]


async def _ask(
    shards: ShardMap, tag: str, found: Sequence[Candidate], question: str, deadline: float
) -> list[Outcome]:
    keys = [span_key(candidate.article, candidate.tag, candidate.idx, question) for candidate in found]
    start = time.perf_counter()
    try:
        async with asyncio.timeout_at(deadline):
            answers = await ask_keys(shards, keys, deadline)
    except (RedisError, OSError, TimeoutError) as error:
        answers = [Missed(error)] * len(found)
    took_ms = round((time.perf_counter() - start) * 1000, 2)
    return [
        _outcome(tag, candidate, answer, took_ms) for candidate, answer in zip(found, answers, strict=True)
    ]


def _outcome(tag: str, candidate: Candidate, answer: Missed, took_ms: float) -> Outcome:
    if isinstance(answer.raw, Exception):
        error, status = answer.raw, status_of(answer.raw)
        log.info("shard {%s} %s: %s: %s", tag, candidate.sentencekey, status, _without_the_question(error))
        return Outcome(tag, candidate, status, None, took_ms)
    # nil: plain Redis's own reply, so no registration asks for this key on that shard
    status = Status.FAILED if answer.raw is None else Status.ANSWERED
    return Outcome(tag, candidate, status, answer.raw, took_ms, answer.there)


def _without_the_question(error: BaseException) -> str:
    """For the log. A function's own words may repeat the question: its line is in the worker's log."""
    if isinstance(error, ResponseError):
        return (str(error).split(maxsplit=1) or [""])[0]
    return str(error) or type(error).__name__
