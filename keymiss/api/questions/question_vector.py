"""The vector of a question: a key that misses, which a shard's encoder answers and the shard keeps."""

from __future__ import annotations

import asyncio
import logging
import zlib

from redis.exceptions import RedisError

from keymiss.api.questions.missed_key import ask_key
from keymiss.api.shard_status import status_of
from keymiss.api.unused import Reason, Signal, Unused
from keymiss.cluster.shard_map import ShardMap
from keymiss.keys import question_vector_key
from keymiss.reading.stored_vector import Encoded, question_from_bytes

log = logging.getLogger(__name__)


class QuestionVectors:
    """Asks the shards for vectors; which one depends on the question, so that the same one has it."""

    def __init__(self, shards: ShardMap, time_limit_s: float) -> None:
        self._shards, self._time_limit_s = shards, time_limit_s
        self._failing = False  # said once, not for every question

    async def get(self, question: str) -> Encoded | Unused:
        """The vector; or why there is none: the question is then searched for without."""
        tags = sorted(each.tag for each in self._shards.shards if not self._shards.is_silent(each.master))
        if not tags:
            return Unused(Signal.VECTORS, Reason.FAILED)
        tag = tags[zlib.crc32(question.encode()) % len(tags)]
        try:
            async with asyncio.timeout(self._time_limit_s):
                value = await ask_key(self._shards, question_vector_key(tag, question))
        except (RedisError, OSError, TimeoutError) as error:
            return self._unused(tag, Reason(status_of(error).value), repr(error))
        if value is None:
            return self._unused(tag, Reason.FAILED, "no function is registered that makes them")
        vector = question_from_bytes(value) if isinstance(value, bytes) else None
        if vector is None:
            return self._unused(tag, Reason.FAILED, "what came is no vector")
        self._failing = False
        return vector

    def _unused(self, tag: str, reason: Reason, why: str) -> Unused:
        if not self._failing:
            log.warning(
                "no vectors of questions, they are searched for without: %s, shard {%s}: %s", reason, tag, why
            )
        self._failing = True
        return Unused(Signal.VECTORS, reason, (tag,))
