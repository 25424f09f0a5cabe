"""Sentences asked on many shards at once, those of a shard in one request, with one time limit for all.

Every question sent ends in exactly one `Outcome`. A shard gives what is ready shortly before the time is up;
a request that is not answered even then is cancelled, its connection closed: the module then drops the jobs
that no worker has begun.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from keymiss.api.questions.given_answer import GivenAnswer, given_answer
from keymiss.api.questions.missed_key import Missed, ask_keys
from keymiss.api.shard_status import Status, status_of
from keymiss.cluster.shard_map import ShardMap
from keymiss.keys import span_key
from keymiss.retrieval import Candidate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sentence. ``given``: for ANSWERED, else None; ``cached``: it was there already."""

    shard: str
    candidate: Candidate
    status: Status
    given: GivenAnswer | None
    took_ms: float
    cached: bool = False


async def ask_all(
    shards: ShardMap, candidates: Mapping[str, Sequence[Candidate]], question: str, deadline: float
) -> list[Outcome]:
    """One outcome for each candidate, in their order, by ``deadline`` of the loop's clock at the latest."""
    wanted = [(tag, candidate) for tag, found in candidates.items() for candidate in found]
    keys = [span_key(each.article, each.tag, each.idx, question) for _, each in wanted]
    start = time.perf_counter()
    ended_ms: dict[str, float] = {}

    def ended(some: Iterable[str]) -> None:
        ended_ms.update(dict.fromkeys(some, round((time.perf_counter() - start) * 1000, 2)))

    answers = await ask_keys(shards, keys, deadline, ended)
    return [
        _outcome(shards.name_of_shard(key, tag), candidate, answer, ended_ms[key])
        for (tag, candidate), key, answer in zip(wanted, keys, answers, strict=True)
    ]


def _outcome(tag: str, candidate: Candidate, answer: Missed, took_ms: float) -> Outcome:
    if isinstance(answer.raw, Exception):
        error, status = answer.raw, status_of(answer.raw)
        log.info("shard {%s} %s: %s: %s", tag, candidate.sentencekey, status, _without_the_question(error))
        return Outcome(tag, candidate, status, None, took_ms)
    # nil: plain Redis's own reply, so no registration asks for this key on that shard
    given = None if answer.raw is None else given_answer(answer.raw)
    status = Status.FAILED if given is None else Status.ANSWERED
    return Outcome(tag, candidate, status, given, took_ms, answer.there)


def _without_the_question(error: BaseException) -> str:
    """For the log. A function's own words may repeat the question: its line is in the worker's log."""
    if isinstance(error, ResponseError):
        return (str(error).split(maxsplit=1) or [""])[0]
    return str(error) or type(error).__name__
