"""Articles in the cluster, as the HTTP service writes and reads them.

What is written is ``article:<article>`` and then ``paragraphs:<article>``, which sets off the functions on
the shard that make the rest; what is deleted is these two, and the functions take the rest out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from keymiss.api.articles.titles import as_number, as_text
from keymiss.api.http.problems import AllLate, NoShardAnswered, NoSuchArticle, TooManyQuestions
from keymiss.api.shard_status import Status, status_of
from keymiss.api_shapes.articles import ArticleState
from keymiss.cluster.shard_map import ShardMap
from keymiss.corpus.article_file import ARTICLE_FIELDS, Article
from keymiss.keys import (
    article_key,
    article_tag,
    concepts_key,
    paragraphs_key,
    sentence_key,
    state_key,
)

log = logging.getLogger(__name__)

# The hash holds just the new fields at every moment: as one command, which also survives a moving slot.
REPLACE_HASH = """
local was_there = redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV))
return was_there
"""


@dataclass(frozen=True, slots=True)
class StoredText:
    """What of an article lies on the shard of its text."""

    tag: str
    text: bytes | None
    state: Mapping[bytes, bytes]
    indexes: Sequence[int]  # of its sentences, ascending

    @property
    def exists(self) -> bool:
        """Whether there is anything."""
        return self.text is not None or bool(self.state) or bool(self.indexes)

    @property
    def progress(self) -> ArticleState:
        """Sentences without text or state were put there by hand: nothing more will happen to them."""
        if self.text is None:
            return ArticleState.REMOVING if self.state else ArticleState.PROCESSED
        if self.state.get(b"text") != hashlib.sha1(self.text).hexdigest().encode():
            return ArticleState.ACCEPTED
        return ArticleState.SKIPPED if self.state.get(b"skipped") else ArticleState.PROCESSED

    @property
    def paragraph_of(self) -> Sequence[int]:
        """The number of each sentence's paragraph, by the sentence's index; empty when it is not known."""
        try:
            numbers = json.loads(self.state.get(b"paragraph_of", b""))
        except ValueError:
            return ()
        return numbers if isinstance(numbers, list) and all(type(each) is int for each in numbers) else ()


class ArticleStore:
    """Puts, reads and deletes articles.

    ``name_of`` gives a concept's name; its id when that is not known. Every method takes ``time_limit_s`` at
    most, and raises AllLate when that is over, TooManyQuestions when a queue is full, and NoShardAnswered
    when a shard is away or refuses.
    """

    def __init__(
        self,
        shards: ShardMap,
        time_limit_s: float,
        name_of: Callable[[str], str] = lambda concept_id: concept_id,
    ) -> None:
        self._shards = shards
        self._time_limit_s = time_limit_s
        self._name_of = name_of

    async def put(self, article: Article) -> bool:
        """Writes an article; True when there was one of that name. Doing it again does no harm."""
        async with self._in_time():
            hash_key, text_key = article_key(article.name), paragraphs_key(article.name)
            flat = [part for item in article.fields.items() for part in item]
            had_hash = await self._shards.execute(hash_key, "EVAL", REPLACE_HASH, 1, hash_key, *flat)
            had_text, _ = await self._shards.execute_together(
                text_key, ("EXISTS", text_key), ("SET", text_key, article.text)
            )
            return bool(had_hash or had_text)

    async def delete(self, article: str) -> None:
        """Deletes an article's text and hash. NoSuchArticle when there is neither."""
        async with self._in_time():
            # The text first: the hash still names the article if this is cut short.
            gone = [await self._shards.execute(key, "DEL", key) for key in _keys_of(article)]
            if not any(gone):
                raise no_such_article(article)

    async def read(self, article: str, limit: int, offset: int) -> dict[str, Any]:
        """The reply of GET /articles/<id>: what is known, and ``limit`` sentences from ``offset`` on.

        NoSuchArticle when nothing of it is there.
        """
        async with self._in_time():
            _, hash_key = _keys_of(article)
            values = await self._shards.execute(hash_key, "HMGET", hash_key, *ARTICLE_FIELDS)
            stored = await self._stored_text(article)
            if not (stored.exists or any(value is not None for value in values)):
                raise no_such_article(article)
            page = stored.indexes[offset : offset + limit]
            title, year, month, day, source, authors, journal, url = values
            return {
                "article": article,
                "title": as_text(title),
                "year": as_number(year),
                "month": as_number(month),
                "day": as_number(day),
                "authors": (as_text(authors) or "").split("; ") if authors else [],
                "journal": as_text(journal) or None,
                "url": as_text(url) or None,
                "source": as_text(source) or None,
                "shard": self._shards.shard_of(paragraphs_key(article)).tag,
                "state": stored.progress,
                "language": as_text(stored.state.get(b"language")) or None,
                "skipped": as_text(stored.state.get(b"skipped")) or None,
                "sentences": await self._sentences(article, stored, page),
                "total": len(stored.indexes),
                "limit": limit,
                "offset": offset,
            }

    async def _stored_text(self, article: str) -> StoredText:
        text_key = paragraphs_key(article)
        tag = article_tag(article)
        state, sentences = state_key(article, tag), sentence_key(article, tag)
        text = await self._shards.execute(text_key, "GET", text_key)
        flat = await self._shards.execute(state, "HGETALL", state)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        names = await self._shards.execute(sentences, "HKEYS", sentences)
        return StoredText(tag, text, fields, sorted(int(name) for name in names if name.isdigit()))

    async def _sentences(
        self, article: str, stored: StoredText, indexes: Sequence[int]
    ) -> list[dict[str, Any]]:
        if not indexes:
            return []
        paragraph_of, columns = stored.paragraph_of, []
        sentences = sentence_key(article, stored.tag)
        for key in (sentences, concepts_key(article, stored.tag)):
            columns.append(await self._shards.execute(key, "HMGET", key, *indexes))
        return [
            {
                "idx": idx,
                "sentence": as_text(sentence),
                "sentencekey": f"{sentences}:{idx}",
                "paragraph": paragraph_of[idx] if idx < len(paragraph_of) else None,
                "concepts": [{"id": one, "name": self._name_of(one)} for one in concept_ids(concepts)],
            }
            for idx, sentence, concepts in zip(indexes, *columns, strict=True)
            if sentence is not None  # deleted between the two reads
        ]

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Errors of the shards become problems; what a server says goes to the log only."""
        try:
            async with asyncio.timeout(self._time_limit_s):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("an article's keys: %r", error)
            status = status_of(error)
            if status is Status.LATE:
                raise AllLate(f"the shard did not answer within {self._time_limit_s:g} s") from None
            if status is Status.BUSY:
                raise TooManyQuestions("the shard's queue is full") from None
            if isinstance(error, OutOfMemoryError):
                raise NoShardAnswered(
                    "the article's shard takes no writes: its memory is full (maxmemory)"
                ) from None
            raise NoShardAnswered("the article's shard cannot be reached or refused the command") from None


def concept_ids(value: bytes | None) -> list[str]:
    """The ids in a field of ``concepts:<article>:{tag}``: ``<year or nothing> <id> <id> ...``."""
    return (as_text(value) or "").split(" ")[1:]


def no_such_article(article: str) -> NoSuchArticle:
    """The problem, with the name that was asked for."""
    return NoSuchArticle(f"no article is named {article!r}")


def _keys_of(article: str) -> tuple[str, str]:
    """Text and hash of an article. NoSuchArticle when it cannot be an article's name."""
    try:
        return paragraphs_key(article), article_key(article)
    except ValueError:
        raise no_such_article(article) from None
