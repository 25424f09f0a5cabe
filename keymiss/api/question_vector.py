"""The vector of a question: a key that misses, which a shard's encoder answers and the shard keeps."""

from __future__ import annotations

import asyncio
import logging
import zlib

from redis.exceptions import RedisError

from keymiss.api.asking import ask_key
from keymiss.api.shards import ShardMap
from keymiss.keys import question_vector_key
from keymiss.stored_vector import Vector, question_from_bytes

log = logging.getLogger(__name__)


class QuestionVectors:
    """Asks the shards for vectors; which one is asked depends on the question, so that the same one has it.

    A vector that cannot be had in time is None: the question is then searched for by its words alone.
    """

    def __init__(self, shards: ShardMap, time_limit_s: float) -> None:
        self._shards, self._time_limit_s = shards, time_limit_s
        self._failing = False  # said once, not for every question

    async def get(self, question: str) -> Vector | None:
        """[384], of unit length."""
        tags = sorted(shard.tag for shard in self._shards.shards)
        if not tags:
            return None
        key = question_vector_key(tags[zlib.crc32(question.encode()) % len(tags)], question)
        try:
            async with asyncio.timeout(self._time_limit_s):
                value, _ = await ask_key(self._shards, key)
        except (RedisError, OSError, TimeoutError) as error:
            if not self._failing:
                log.warning("no vectors of questions, they are searched for by their words: %r", error)
            self._failing = True
            return None
        self._failing = False
        return question_from_bytes(value) if isinstance(value, bytes) else None
