"""The concept table as the API knows it: names of concepts, and the concepts that a text mentions.

It is read from ``concept-table:{tag}`` of whichever shard answers first and followed by its sha256. The
table in use stays when no shard can be asked, and goes when every shard says that it has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from redis.exceptions import RedisError

from keymiss.cluster.shard_map import ShardMap
from keymiss.corpus.concept_matcher import ConceptMatcher
from keymiss.corpus.concept_table import BadTable, Concept, ConceptTable
from keymiss.keys import concept_table_key

log = logging.getLogger(__name__)

DIGEST_TIMEOUT_S = 2.0
TABLE_TIMEOUT_S = 30.0
"""A table of 500,000 rows is some 50 MB."""


class Concepts:
    """Follows the table from `start` to `stop`. Until it is there, no text mentions anything."""

    def __init__(self, shards: ShardMap, poll_s: float) -> None:
        self._shards = shards
        self._poll_s = poll_s
        self._digest: bytes | None = None
        self._table: ConceptTable | None = None
        self._matcher: ConceptMatcher | None = None
        self._usable = False
        self._poll: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to follow; does not wait for the table."""
        self._poll = asyncio.create_task(self._follow(), name="concepts")

    async def stop(self) -> None:
        """Ends following. The table stays usable."""
        if self._poll:
            self._poll.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poll

    @property
    def loaded(self) -> bool:
        """Whether there is a table."""
        return self._table is not None

    @property
    def usable(self) -> bool:
        """Whether a text without concepts really mentions none: there is a table, or every shard said that
        there is none."""
        return self._usable

    def mentioned(self, text: str) -> list[Concept]:
        """The different concepts of a text, in the order of their first mention."""
        if self._table is None or self._matcher is None:
            return []
        return [self._table.concepts[each] for each in self._matcher.ids(text)]

    def knows(self, concept_id: str) -> bool:
        """Whether the table has the concept."""
        return self._table is not None and concept_id in self._table.concepts

    def name(self, concept_id: str) -> str:
        """The concept's name; its id when the table does not have it (any more, or not yet)."""
        concept = self._table.concepts.get(concept_id) if self._table else None
        return concept.name if concept else concept_id

    async def _follow(self) -> None:
        while True:
            try:
                await self.refresh()
            except Exception:  # the loop must outlive whatever one round runs into
                log.exception("reading the concept table failed")
            await asyncio.sleep(self._poll_s)

    async def refresh(self) -> None:
        """Looks whether the table has changed, and loads it."""
        answered = 0
        shards = self._shards.shards
        for shard in shards:
            key = concept_table_key(shard.tag)
            try:
                async with asyncio.timeout(DIGEST_TIMEOUT_S):
                    digest = await self._shards.execute(key, "HGET", key, "sha256")
                if digest is not None:
                    if digest != self._digest:
                        await self._load(key)
                    return
                answered += 1
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("no concept table from shard {%s}: %r", shard.tag, error)
        if shards and answered == len(shards):
            if self._table:
                log.info("the concept table was removed")
            self._digest = self._table = self._matcher = None
            self._usable = True

    async def _load(self, key: str) -> None:
        async with asyncio.timeout(TABLE_TIMEOUT_S):
            digest, csv = await self._shards.execute(key, "HMGET", key, "sha256", "csv")
        if digest is None or csv is None:
            return
        try:
            table, matcher = await asyncio.to_thread(_made_from, csv)
        except (BadTable, UnicodeDecodeError) as error:
            log.warning("the concept table at %s cannot be used: %s", key, error)
            self._digest = digest  # not again until it changes; the old table stays in use
            self._usable = self._table is not None
            return
        self._digest, self._table, self._matcher, self._usable = digest, table, matcher, True
        log.info("concept table: %d concepts", len(table.concepts))


def _made_from(csv: bytes) -> tuple[ConceptTable, ConceptMatcher]:
    """Takes seconds for a large table, so not on the event loop."""
    table = ConceptTable.from_csv_text(csv.decode())
    return table, ConceptMatcher(table)
