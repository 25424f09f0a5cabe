"""Keys that a shard answers: there already, or made by the function that is registered for them.

The worker is told the id of the request that is being handled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import TryAgainError

from keymiss.cluster.shard_map import ShardMap
from keymiss.request_id import current_request_id

MAX_KEYS = 1024
"""Of one request: the module's limit."""

REPLY_MARGIN_S = 0.15
"""What is ready by a time limit must be here by then: the module looks at limits every 100 ms."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What a key came to. ``raw``: its value, None where no function makes it, or why there is none;
    ``there``: it was there already."""

    raw: bytes | Exception | None
    there: bool = False


async def ask_key(shards: ShardMap, key: str) -> tuple[bytes | None, bool]:
    """The key's value, None where no function makes it; and whether it was there already. Raises what
    ``execute_together`` raises."""
    there, raw = await shards.execute_together(key, ("EXISTS", key), ("KM.MISS", key, *_request()))
    return raw, bool(there) and raw is not None


async def ask_keys(shards: ShardMap, keys: Sequence[str], deadline: float) -> list[Missed]:
    """The keys, all of one slot, in one request: those that are not ready shortly before the deadline (of the
    loop's clock) are TIMEOUT errors. Raises what ``execute`` raises."""
    left_s = deadline - asyncio.get_running_loop().time() - REPLY_MARGIN_S
    limit = ("LIMIT", max(1, int(left_s * 1000)))
    try:
        replies = await shards.execute(keys[0], "KM.MISSES", len(keys), *keys, *limit, *_request())
    except TryAgainError:  # the slot is on its way to another shard: each key is here or there
        if len(keys) == 1:
            raise
        alone = await asyncio.gather(*(ask_keys(shards, [key], deadline) for key in keys))
        return [each for (each,) in alone]
    return [Missed(raw, bool(there)) for there, raw in replies]


def _request() -> tuple[str, ...]:
    request_id = current_request_id.get()
    return () if request_id is None else ("REQUEST", request_id)
