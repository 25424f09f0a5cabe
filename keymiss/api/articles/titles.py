"""Title and year of articles, for replies that name them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from redis.exceptions import RedisError

from keymiss.cluster.shard_map import ShardMap
from keymiss.keys import article_key

MAX_REMEMBERED = 10_000  # of a few hundred bytes: some megabytes


@dataclass(frozen=True, slots=True)
class ArticleFacts:
    """What ``article:<article>`` says; None where it says nothing."""

    title: str | None = None
    year: int | None = None


UNKNOWN = ArticleFacts()


def as_text(raw: bytes | None) -> str | None:
    """A hash's field; bytes that are not UTF-8 are replaced."""
    return raw.decode(errors="replace") if raw is not None else None


def as_number(raw: bytes | None) -> int | None:
    """A year, month or day; None when it is not a number of at most four digits."""
    return int(raw) if raw and len(raw) <= 4 and raw.isdigit() else None


class Articles:
    """Facts of articles, read from ``article:<article>`` and remembered for ``keep_s``."""

    def __init__(self, shards: ShardMap, keep_s: float) -> None:
        self._shards = shards
        self._keep_s = keep_s
        self._known: dict[str, tuple[float, ArticleFacts]] = {}

    async def get(self, articles: Iterable[str], time_limit_s: float) -> dict[str, ArticleFacts]:
        """Article -> its facts; UNKNOWN where there are none, or where they did not come in time."""
        names = list(dict.fromkeys(articles))
        facts = await asyncio.gather(*(self._one(name, time_limit_s) for name in names))
        return dict(zip(names, facts, strict=True))

    async def _one(self, article: str, time_limit_s: float) -> ArticleFacts:
        now = time.monotonic()
        read_at, facts = self._known.get(article, (float("-inf"), UNKNOWN))
        if now - read_at < self._keep_s:
            return facts
        key = article_key(article)
        try:
            async with asyncio.timeout(time_limit_s):
                title, year = await self._shards.execute(key, "HMGET", key, "title", "year")
        except (RedisError, OSError, TimeoutError):
            return facts  # old ones are better than none
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        facts = ArticleFacts(as_text(title), as_number(year))
        self._known[article] = (now, facts)
        return facts
