"""The readiness check: it runs the model on every master, and asks whether memory was short there.

Where a shard has sentences, one of them is asked a question nobody asked before: registration,
function, tensor, worker and model all have to work. The two keys that leaves are deleted. A shard
without sentences runs its model on a tensor that expires by itself (AI.MODELEXECUTE). A shard that may evict
what cannot be made again, or has, is not ready either: its questions are answered from less than was loaded.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from keymiss.api.http.problems import NotReady
from keymiss.api.questions.given_answer import given_answer
from keymiss.api.settings import ApiSettings
from keymiss.api.shard_status import Status, status_of
from keymiss.api_shapes.health import NO_SENTENCES
from keymiss.cluster.shard_map import ShardMap
from keymiss.cluster.tls import TlsTrouble
from keymiss.cluster.topology import Shard, count_slots
from keymiss.corpus.eviction_report import evicted_problem, policy_problem
from keymiss.keys import SLOTS, answer_key, evicted_key, lower_model_key, model_key, span_key
from keymiss.retrieval import Candidate, Retrieval

log = logging.getLogger(__name__)

PROBE_KEYS_EXPIRE_S = 60
PROBE_TOKENS = 4
PROBE_TENSORS = ("ids", "mask", "types", "states", "start", "end", "relevance")

REFUSED = "it refuses the API's user or password"
NOT_CONNECTED = "the API and it do not agree on TLS: the API's log says what to do"

# What the client is told; the first that fits, so the wider types stand last.
KNOWN_ERRORS: dict[type[Exception], str] = {
    ClusterDownError: "the cluster is down",
    BusyLoadingError: "the server is loading its data",
    AuthenticationError: REFUSED,
    NoPermissionError: "the API's user may not do what it must",
    TlsTrouble: NOT_CONNECTED,
    OutOfMemoryError: "its memory is full (maxmemory): it takes no writes",
    RedisConnectionError: "it cannot be reached",
    OSError: "it cannot be reached",
}
NO_MODEL = "there is no model"  # in the words of gears/qa.py
KNOWN_WORDS = {
    "NOWORKER": "no worker is attached",
    "NOFUNCTION": "it lacks functions that other shards have: upload them again",
    "BUSY": "its queue is full",
    "FAILED": "the model or the answering function fails",
}


class Readiness:
    """Checks that every shard answers; one check at a time, its result is given again for a second."""

    def __init__(self, settings: ApiSettings, shards: ShardMap, retrieval: Retrieval) -> None:
        self._settings = settings
        self._shards = shards
        self._retrieval = retrieval
        self._lock = asyncio.Lock()
        self._checked_at = float("-inf")
        self._last: tuple[dict[str, float], list[str]] = ({}, [])

    async def check(self) -> dict[str, Any]:
        """``{"status": "ready", "shards": {tag: milliseconds}}``. Raises NotReady naming what is missing."""
        async with self._lock:
            if time.monotonic() - self._checked_at >= self._settings.ready_cache_s:
                self._last = await self._check()
                self._checked_at = time.monotonic()
        took_ms, missing = self._last
        if missing:
            raise NotReady("; ".join(missing), missing=missing, shards=took_ms)
        return {"status": "ready", "shards": took_ms}

    async def _check(self) -> tuple[dict[str, float], list[str]]:
        await self._shards.refresh()
        shards = self._shards.shards
        missing = []
        if not shards:
            if self._shards.refused:
                return {}, [f"the cluster: {_known(self._shards.refused)}"]
            return {}, ["no node of the cluster can be reached"]
        uncovered = SLOTS - sum(count_slots(shard.slots) for shard in shards)
        if uncovered:
            missing.append(f"{uncovered} slots have no master")
        indexed = self._retrieval.sentences()
        if all(indexed.get(shard.tag) == 0 for shard in shards):
            missing.append(NO_SENTENCES)
        missing += [f"shard {{{s.tag}}}: not indexed yet" for s in shards if indexed.get(s.tag) is None]
        reports = await asyncio.gather(*(self._probe(shard, indexed.get(shard.tag)) for shard in shards))
        memory = await asyncio.gather(*(self._memory(shard) for shard in shards))
        by_tag = zip((shard.tag for shard in shards), reports, strict=True)
        took_ms = {tag: report for tag, report in by_tag if isinstance(report, float)}
        missing += [report for report in reports if isinstance(report, str)]
        missing += [words for of_shard in memory for words in of_shard]
        return took_ms, list(dict.fromkeys(missing))

    async def _probe(self, shard: Shard, sentences: int | None) -> float | str:
        """Milliseconds, or what is wrong in words."""
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.ready_time_limit_s):
                some = self._retrieval.some_sentence(shard.tag) if sentences else None
                wrong = await (self._ask(some) if some else self._run_model(shard))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("readiness of shard {%s}: %r", shard.tag, error)
            wrong = _in_words(error, self._settings.ready_time_limit_s)
        if wrong:
            return f"shard {{{shard.tag}}}: {wrong}"
        return round((time.perf_counter() - start) * 1000, 2)

    async def _memory(self, shard: Shard) -> list[str]:
        """What is wrong in words: its policy, what it evicted."""
        keys = [evicted_key(part) for part in shard.parts]
        try:
            async with asyncio.timeout(self._settings.ready_time_limit_s):
                (info,) = await self._shards.replies_at(shard.master, [("INFO", "memory")])
                evicted = sum([await self._shards.execute(key, "HLEN", key) for key in keys])
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("memory of shard {%s}: %r", shard.tag, error)
            return [f"shard {{{shard.tag}}}: {_in_words(error, self._settings.ready_time_limit_s)}"]
        wrong = (policy_problem(_policy_in(info)), evicted_problem(evicted))
        return [f"shard {{{shard.tag}}}: {words}" for words in wrong if words]

    async def _ask(self, at: Candidate) -> str | None:
        question = f"ready {uuid.uuid4().hex}"
        key = span_key(at.article, at.tag, at.idx, question)
        raw = await self._shards.execute(key, "GET", key)
        await self._shards.execute(key, "UNLINK", key, answer_key(at.article, at.tag, at.idx, question))
        if raw is None:
            return "no function is registered for bertspan"
        if given_answer(raw) is None:
            return "the reply of the answering function cannot be read"
        return None

    async def _run_model(self, shard: Shard) -> str | None:
        """One run of the shard's model over [CLS] [SEP] ..., shape INT64 [1, 4] for each of three inputs; of
        both halves of a split reader, one after the other."""
        names = [f"keymiss:ready:{what}{{{shard.tag}}}" for what in PROBE_TENSORS]
        for name, value in zip(names[:3], ("102", "1", "0"), strict=True):
            values = [value] * PROBE_TOKENS
            await self._shards.execute(
                name, "AI.TENSORSET", name, "INT64", 1, PROBE_TOKENS, "VALUES", *values
            )
            await self._shards.execute(name, "EXPIRE", name, PROBE_KEYS_EXPIRE_S)
        ids, mask, types, states, start, end, relevance = names
        model, lower = model_key(shard.tag), lower_model_key(shard.tag)
        if await self._shards.execute(lower, "EXISTS", lower):
            await self._run(lower, (ids, mask, types), (states,))
            await self._run(model, (states, mask), (start, end, relevance))
        else:
            await self._run(model, (ids, mask, types), (start, end))
        await self._shards.execute(names[0], "UNLINK", *names)
        return None

    async def _run(self, model: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        given: list[str | int] = ["INPUTS", len(inputs), *inputs, "OUTPUTS", len(outputs), *outputs]
        await self._shards.execute(model, "AI.MODELEXECUTE", model, *given)


def _policy_in(info: bytes) -> str:
    """From a server's INFO."""
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return fields["maxmemory_policy"]


def _known(error: Exception) -> str:
    return next((words for kind, words in KNOWN_ERRORS.items() if isinstance(error, kind)), "")


def _in_words(error: Exception, limit_s: float) -> str:
    """For the client: a known error word, never the text a function or a server wrote."""
    if status_of(error) is Status.LATE:
        return f"the model did not answer within {limit_s:g} s"
    if known := _known(error):
        return known
    if NO_MODEL in str(error):
        return f"{NO_MODEL}: keymiss models load"
    word = (str(error).split(maxsplit=1) or [""])[0]
    return KNOWN_WORDS.get(word, "the model cannot be run")
