"""One question, from the candidates to the merged reply."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from redis.exceptions import RedisError

from keymiss.api.fanout import Outcome, Status, ask_all
from keymiss.api.merge import Answer, Coverage, coverage, final_status, merge
from keymiss.api.problems import AllLate, NoShardAnswered, TooManyQuestions
from keymiss.api.settings import ApiSettings
from keymiss.api.shards import ShardMap
from keymiss.keys import article_key
from keymiss.retrieval import Retrieval

MAX_TITLES = 10_000  # of a few hundred bytes: some megabytes


class Titles:
    """Titles of articles, read from ``article:<article>`` and remembered for a while."""

    def __init__(self, shards: ShardMap, keep_s: float) -> None:
        self._shards = shards
        self._keep_s = keep_s
        self._known: dict[str, tuple[float, str | None]] = {}

    async def get(self, articles: Iterable[str], time_limit_s: float) -> dict[str, str | None]:
        """Article -> title; None where there is none, or where it did not come in time."""
        names = list(dict.fromkeys(articles))
        titles = await asyncio.gather(*(self._one(name, time_limit_s) for name in names))
        return dict(zip(names, titles, strict=True))

    async def _one(self, article: str, time_limit_s: float) -> str | None:
        now = time.monotonic()
        read_at, title = self._known.get(article, (float("-inf"), None))
        if now - read_at < self._keep_s:
            return title
        key = article_key(article)
        try:
            async with asyncio.timeout(time_limit_s):
                raw = await self._shards.execute(key, "HGET", key, "title")
        except (RedisError, OSError, TimeoutError):
            return title  # an old one is better than none
        if len(self._known) >= MAX_TITLES:
            self._known.clear()
        title = raw.decode(errors="replace") if raw is not None else None
        self._known[article] = (now, title)
        return title


class Asker:
    """Answers questions over all shards."""

    def __init__(self, settings: ApiSettings, shards: ShardMap, retrieval: Retrieval) -> None:
        self._settings = settings
        self._shards = shards
        self._retrieval = retrieval
        self._titles = Titles(shards, settings.title_cache_s)
        self._in_flight = 0

    async def ask(self, question: str) -> dict[str, Any]:
        """The reply of /qasearch. Raises TooManyQuestions, NoShardAnswered, AllLate."""
        if self._in_flight >= self._settings.max_questions:
            raise TooManyQuestions(f"{self._in_flight} questions are being answered; ask again in a second")
        self._in_flight += 1
        try:
            return await self._ask(question)
        finally:
            self._in_flight -= 1

    async def _ask(self, question: str) -> dict[str, Any]:
        start = time.perf_counter()
        limit_s = self._settings.time_limit_s
        found = await self._retrieval.candidates(question, self._settings.candidates_per_shard)
        unindexed = [shard.tag for shard in self._shards.shards if shard.tag not in found]
        if not found:
            raise NoShardAnswered("no shard can be reached, or none has been indexed yet")
        outcomes, titles = await asyncio.gather(
            ask_all(self._shards, found, question, limit_s),
            self._titles.get((c.article for each in found.values() for c in each), limit_s),
        )
        covered = coverage(outcomes, unindexed)
        refuse_if_none_answered(outcomes, covered)
        answers = merge(outcomes, self._settings.results)
        return {
            "links": [],
            "results": [_result(answer, titles.get(answer.candidate.article)) for answer in answers],
            "score": round(answers[0].score, 6) if answers else None,
            "coverage": asdict(covered),
            "took_ms": round((time.perf_counter() - start) * 1000, 2),
        }


def refuse_if_none_answered(outcomes: list[Outcome], covered: Coverage) -> None:
    """All late: AllLate; some late and the rest failed: AllLate too, since waiting may help; a full
    queue: TooManyQuestions; else NoShardAnswered. Something answered, or nothing was asked: nothing."""
    if not outcomes or covered.sentences["answered"]:
        return
    counts = Counter(final_status(outcome) for outcome in outcomes)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    detail = f"{len(outcomes)} sentences were asked on {len(covered.shards['asked'])} shards: {said}"
    kinds = ((Status.LATE, AllLate), (Status.BUSY, TooManyQuestions), (Status.FAILED, NoShardAnswered))
    for status, problem in kinds:
        if counts[status]:
            raise problem(detail, coverage=asdict(covered))


def _result(answer: Answer, title: str | None) -> dict[str, Any]:
    return {
        "answer": answer.answer,
        "sentence": answer.candidate.sentence,
        "sentencekey": answer.candidate.sentencekey,
        "title": title,
        "score": round(answer.score, 6),
        "reader_score": answer.reader_score,
        "shard": answer.shard,
        "bm25": round(answer.candidate.bm25, 4),
        "took_ms": answer.took_ms,
    }
