"""What the functions have still to do for the articles of a load: stage by stage, at what rate, until when.

Counted from what is stored: an article is split when its state is of its text, and a sentence tokenized,
encoded or given states when the hash that says so has its field. A sentence of an article that is not split
yet is an estimate, by the length of the text. A replaced article's sentences count as done while what was
made of the old ones is there, so with one of these the time is not known. That all is done is said by
`keymiss.corpus.progress.wait_processed`, not here.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.cluster.redis_cluster import shards_of
from keymiss.corpus.loading import Step

LOOK_EVERY_S = 1.0
LOOK_FOR_S = 0.1
"""A tenth of the time, so that looking takes little from the work: of a large load every look sees a part of
what is left, one after the other."""
ARTICLES_AT_ONCE = 100
RATE_OVER_S = 60.0
BYTES_A_SENTENCE = 150
"""Until something is split."""
SPLIT = "split"
STAGES = {"tokenized": keys.tokens_key, "with vectors": keys.vectors_key, "with states": keys.lower_key}
"""What is counted in sentences, and the hash with a field for each; one that never begins is not waited for:
there is no model for it, or it is switched off."""


@dataclass(frozen=True, slots=True)
class Stage:
    """`unit`: what is counted; `total`: an estimate while not `exact`; `rate`: a second, over the last
    minute; `left_s`: seconds until it is done, None while there is no rate."""

    name: str
    unit: str
    done: int
    total: int
    exact: bool
    rate: float
    left_s: float | None


@dataclass(slots=True)
class _Waiting:
    """`sentences`: None while it is not split; `fresh`: nothing of it was done when it was added."""

    name: str
    tag: str
    digest: str
    bytes: int
    fresh: bool
    sentences: int | None = None
    done: tuple[int, ...] = (0,) * len(STAGES)


class LeftToDo:
    """Of the articles that are added. `now`: a clock, in seconds."""

    def __init__(self, client: RedisCluster, now: Callable[[], float] = time.monotonic) -> None:
        self._client, self._now = client, now
        tag = shards_of(client)[0].tag
        models = (keys.encoder_key, keys.lower_model_key)
        self._needed = [True, *(bool(client.exists(key_of(tag))) for key_of in models)]
        """Whether an article is not done without the stage: it has no model, or one."""
        self._waiting: deque[_Waiting] = deque()
        self._articles = self._bytes = self._replaced = 0
        self._split_bytes = self._sentences = 0
        self._done, self._before = [0] * (1 + len(STAGES)), [0] * (1 + len(STAGES))
        """Articles split, then sentences of each stage; of these, what was done before this load."""
        self._looked = self._now() - LOOK_EVERY_S
        self._seen: deque[tuple[float, list[int]]] = deque([(self._now(), [0] * (1 + len(STAGES)))])

    def add(self, step: Step) -> None:
        """Articles that are there now."""
        self._replaced += step.replaced
        for article in step.articles:
            text, tag = article.text.encode(), keys.article_tag(article.name)
            digest = hashlib.sha1(text).hexdigest()
            self._waiting.append(_Waiting(article.name, tag, digest, len(text), article.name in step.written))
            self._articles += 1
            self._bytes += len(text)

    def look(self) -> bool:
        """Counts again, LOOK_EVERY_S after the last time; whether it did."""
        start, left = self._now(), len(self._waiting)
        if start - self._looked < LOOK_EVERY_S:
            return False
        while left > 0 and self._now() - start <= LOOK_FOR_S:
            part = [self._waiting.popleft() for _ in range(min(left, ARTICLES_AT_ONCE))]
            left -= len(part)
            self._count(part)
        self._looked = self._now()
        worked = [done - before for done, before in zip(self._done, self._before, strict=True)]
        self._seen.append((self._looked, worked))
        while self._looked - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        return True

    def stages(self) -> list[Stage]:
        """As at the last look: articles to split, then sentences; only stages that have begun."""
        exact = self._split_bytes == self._bytes
        a_sentence = self._split_bytes / self._sentences if self._sentences else BYTES_A_SENTENCE
        total = self._sentences + round((self._bytes - self._split_bytes) / a_sentence)
        begun = [place for place, done in enumerate(self._done) if done and place]
        return [
            self._stage(0, SPLIT, "articles", self._articles, True),
            *(self._stage(place, list(STAGES)[place - 1], "sentences", total, exact) for place in begun),
        ]

    def _stage(self, place: int, name: str, unit: str, total: int, exact: bool) -> Stage:
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        rate = (last[place] - first[place]) / (last_at - first_at) if last_at > first_at else 0.0
        left = max(0, total - self._done[place])
        left_s = left / rate if rate > 0 else None if left else 0.0
        left_s = None if self._replaced else left_s
        return Stage(name, unit, self._done[place], total, exact, rate, left_s)

    def _count(self, part: Sequence[_Waiting]) -> None:
        reads = self._client.pipeline()
        for each in part:
            reads.hmget(keys.state_key(each.name, each.tag), "text", "sentences")
            for key_of in STAGES.values():
                reads.hlen(key_of(each.name, each.tag))
        replies = iter(reads.execute())
        for each in part:
            text, sentences = next(replies)
            stages = tuple(next(replies) for _ in STAGES)
            split = text is not None and text.decode() == each.digest
            self._found(each, int(sentences or 0) if split else None, stages)

    def _found(self, each: _Waiting, sentences: int | None, stages: tuple[int, ...]) -> None:
        """How far one is; it waits on unless it is done."""
        if sentences is None:
            self._waiting.append(each)
            return
        more = [int(each.sentences is None), *(n - was for n, was in zip(stages, each.done, strict=True))]
        self._done = [done + n for done, n in zip(self._done, more, strict=True)]
        if each.sentences is None:
            self._split_bytes += each.bytes
            self._sentences += sentences
            if not each.fresh:
                self._before = [before + n for before, n in zip(self._before, more, strict=True)]
        each.sentences, each.done = sentences, stages
        if any(needed and n < sentences for n, needed in zip(stages, self._needed, strict=True)):
            self._waiting.append(each)


def in_words(stages: Sequence[Stage]) -> str:
    """One line: ``split 3 of 22 articles; tokenized 310 of about 3,100 sentences, 420/s; 2:30 left``."""
    parts = []
    for stage in stages:
        about = "" if stage.exact else "about "
        rate = f", {stage.rate:,.0f}/s" if stage.rate >= 1 and stage.left_s else ""
        parts.append(f"{stage.name} {stage.done:,} of {about}{stage.total:,} {stage.unit}{rate}")
    return "; ".join(parts) + f"; {time_left(stages)}"


def time_left(stages: Sequence[Stage]) -> str:
    """Of the stage that takes longest: ``2:30 left``."""
    known = [stage.left_s for stage in stages if stage.left_s is not None]
    if len(known) < len(stages) or not known:
        return "time left not known yet"
    minutes, seconds = divmod(round(max(known)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"
