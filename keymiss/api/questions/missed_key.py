"""Keys that a shard answers: there already, or made by the function that is registered for them.

The worker is told the id of the request that is being handled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from redis.exceptions import AskError, MovedError, RedisError, ResponseError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from keymiss.addresses import Address
from keymiss.cluster.shard_map import ShardMap
from keymiss.cluster.topology import NoShard
from keymiss.request_id import current_request_id

MAX_KEYS = 1024
"""Of one request: the module's limit."""

REPLY_MARGIN_S = 0.25
"""What is ready by a time limit must be here by then: the module looks at limits every 100 ms."""

MOVE_PAUSE_S = 0.03
"""A slot with an article or two is on its way for about as long."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What a key came to. ``raw``: its value, None where no function makes it, or why there is none;
    ``there``: it was there already."""

    raw: bytes | Exception | None
    there: bool = False


async def ask_key(shards: ShardMap, key: str) -> bytes | None:
    """The key's value, None where no function makes it. Raises what ``execute`` raises."""
    raw: bytes | None = await shards.execute(key, "KM.MISS", key, *_request())
    return raw


async def ask_keys(
    shards: ShardMap,
    keys: Sequence[str],
    deadline: float,
    ended: Callable[[Iterable[str]], None] = lambda keys: None,
) -> list[Missed]:
    """The keys, of whichever shards, in one request to each: those that are not ready shortly before the
    deadline (of the loop's clock) are TIMEOUT errors. A key whose slot is on its way is asked for again until
    it has arrived. `ended` is told of keys when their reply has come. Raises nothing that a shard does."""
    found: dict[str, Missed] = {}
    waiting = list(dict.fromkeys(keys))
    while waiting:
        requests = _by_shard(shards, waiting, found)

        async def ask(node: Address, some: list[str]) -> None:
            found.update(zip(some, await _ask(shards, node, some, deadline), strict=True))
            ended(some)

        ended(key for key in waiting if key in found)  # those that no shard has
        await asyncio.gather(*(ask(node, some) for node, some in requests))
        waiting = [key for key in waiting if is_on_its_way(found[key])]
        if waiting:
            if asyncio.get_running_loop().time() + MOVE_PAUSE_S + REPLY_MARGIN_S > deadline:
                break
            await asyncio.sleep(MOVE_PAUSE_S)
            await shards.refresh()
    return [found[key] for key in keys]


def is_on_its_way(missed: Missed) -> bool:
    """Whether it was the key's slot: it moves, or has moved."""
    return isinstance(missed.raw, MovedError | AskError | TryAgainError) or (
        isinstance(missed.raw, ResponseError) and str(missed.raw).startswith("TRYAGAIN")
    )


def _by_shard(
    shards: ShardMap, keys: Iterable[str], found: dict[str, Missed]
) -> list[tuple[Address, list[str]]]:
    """One request's keys, and where they go; a key that no shard has is found to have none."""
    at: dict[Address, list[str]] = {}
    for key in keys:
        try:
            at.setdefault(shards.shard_of(key).master, []).append(key)
        except NoShard as error:
            found[key] = Missed(error)
    return [
        (node, some[first : first + MAX_KEYS])
        for node, some in at.items()
        for first in range(0, len(some), MAX_KEYS)
    ]


async def _ask(shards: ShardMap, node: Address, keys: list[str], deadline: float) -> list[Missed]:
    left_s = deadline - asyncio.get_running_loop().time() - REPLY_MARGIN_S
    limit = ("LIMIT", max(1, int(left_s * 1000)))
    try:
        async with asyncio.timeout_at(deadline):
            replies = await shards.execute_at(
                node, keys[0], "KM.MISSES", len(keys), *keys, *limit, *_request()
            )
    except (RedisError, OSError) as error:
        if isinstance(error, TimeoutError | RedisTimeoutError):  # the shard knew the limit, and said nothing
            shards.was_silent(node)
        return [Missed(error)] * len(keys)
    return [Missed(raw, bool(there)) for there, raw in replies]


def _request() -> tuple[str, ...]:
    request_id = current_request_id.get()
    return () if request_id is None else ("REQUEST", request_id)
