"""Keeps one shard's index equal to the shard, until it is stopped.

An index is made from the shard's ``sentence:*`` and ``vectors:*`` hashes, and the years in its ``state:*``
hashes, by SCAN. From then on the shard itself says what changed: one connection asks for invalidation
messages of the three prefixes (CLIENT TRACKING, broadcast mode) and the hashes of an article named are read
again, so a new sentence is found within about ``SETTLE_S``, by its vector as soon as that is there.
After a lost connection, and every ``rescan_s``, all hashes are compared with the index (by digest; only what
differs is written).

Sentences whose slot moves to another shard stay in this index until that one's has them, so that they are
found all the time; no longer than LEAVES_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import AskError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from keymiss.addresses import Address
from keymiss.cluster.async_connection import connected
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials
from keymiss.cluster.key_changes import READ_TIMEOUT_S, call, tell_changes
from keymiss.keys import SENTENCE_PREFIX, STATE_PREFIX, VECTORS_PREFIX
from keymiss.retrieval.index import ShardIndex

log = logging.getLogger(__name__)

SETTLE_S = 0.2  # changes that come together are written together
PING_S = 5.0  # a silent connection is asked whether it is alive
CONNECT_TIMEOUT_S = 2.0
FIRST_RETRY_S, LAST_RETRY_S = 0.25, 2.0
SCAN_COUNT = 1000
HASHES_AT_ONCE = 50
YEAR_DIGITS = 4  # as everywhere: docs/api.md
LEAVES_S = 10.0  # a shard that the map has for the first time then is found and scanned
LEAVING_LOOK_S = 0.25

PREFIXES = (SENTENCE_PREFIX, VECTORS_PREFIX, STATE_PREFIX)
_SENTENCES, _VECTORS, _STATE = (prefix.encode() for prefix in PREFIXES)

Fields = dict[bytes, bytes]
Reply = list[bytes | None] | None
"""Of HGETALL or HMGET. None: the key's slot is on its way to another shard, or there."""


class ShardFollower:
    """Keeps one shard's index equal to the shard's hashes until `stop`."""

    def __init__(
        self,
        address: Address,
        rescan_s: float = 300.0,
        index: ShardIndex | None = None,
        credentials: Credentials = NO_CREDENTIALS,
        elsewhere: Callable[[bytes], bool] = lambda key: False,
    ) -> None:
        """`elsewhere`: whether another shard's index has the sentences of a key."""
        self.address = address
        self._credentials = credentials
        self.index = index or ShardIndex()
        self.ready = asyncio.Event()  # set when the index was complete once
        self._rescan_s = rescan_s
        self._elsewhere = elsewhere
        self._leaving: dict[bytes, float] = {}  # in the index no longer than until then
        self._arrived: set[bytes] = set()  # of these, at the last look
        self._look_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stops = False

    def start(self) -> None:
        """Starts to follow, unless it does; `ready` says when the first scan is through."""
        self._task = self._task or asyncio.create_task(self._run(), name=f"follow {self.address}")

    async def stop(self) -> None:
        """Stops following, and waits for a change of the index under way; it stays as it is then."""
        self._stops = True
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def keeps(self, key: bytes, than: ShardIndex) -> bool:
        """Whether its sentences are found here as well as there, and are not to leave."""
        stays = self.ready.is_set() and key not in self._leaving
        return stays and self.index.stands_in_for(than, key)

    async def leave(self) -> None:
        """The shard is gone, or has no slots any more: its sentences stay until others have them."""
        await self.stop()
        until = asyncio.get_running_loop().time() + LEAVES_S
        self._leaving = dict.fromkeys(self.index.keys, until)
        self._task = asyncio.create_task(self._leave(until), name=f"leave {self.address}")

    async def _leave(self, until: float) -> None:
        while self._leaving and asyncio.get_running_loop().time() < until:
            await self._drop_arrived()
            await asyncio.sleep(LEAVING_LOOK_S)
        for key in self._leaving:
            self.index.drop(key)
        await _in_thread(self.index.commit)

    async def _drop_arrived(self) -> None:
        """Those that were elsewhere at the last look, too: a search that began before is over then."""
        now = {key for key in self._leaving if self._elsewhere(key)}
        gone, self._arrived = now & self._arrived, now - self._arrived
        for key in gone:
            del self._leaving[key]
            self.index.drop(key)
        if gone:
            await _in_thread(self.index.commit)

    async def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                async with self._connection() as news, self._connection() as reader:
                    await tell_changes(news, PREFIXES)  # before the scan: no change falls between the two
                    await self._rescan(reader)
                    retry_s = FIRST_RETRY_S
                    await self._listen(news, reader)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("sentences of %s: %s; again in %s s", self.address, error, retry_s)
            except Exception:  # a fault of ours must not end the refresh for good
                log.exception("sentences of %s", str(self.address))
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    def _connection(self) -> AbstractAsyncContextManager[Connection]:
        return connected(self.address, self._credentials, CONNECT_TIMEOUT_S, "keymiss-retrieval")

    async def _listen(self, news: Connection, reader: Connection) -> None:
        loop = asyncio.get_running_loop()
        rescan_at = loop.time() + self._rescan_s
        silent = False
        ping_at = loop.time() + PING_S
        while True:
            await self._look_at_leaving(reader)
            wait_until = min(ping_at, rescan_at, *([loop.time() + LEAVING_LOOK_S] if self._leaving else []))
            message = await news.read_response(timeout=max(wait_until - loop.time(), 0.01))
            if message is None and loop.time() < min(ping_at, rescan_at):
                continue
            ping_at = loop.time() + PING_S
            if message is None and loop.time() < rescan_at:
                if silent:
                    raise RedisConnectionError(f"no answer to PING within {PING_S} s")
                silent = True
                await news.send_command("PING")
                continue
            silent = silent and message is None
            changed = await self._gather(news, message)
            if changed is None or loop.time() >= rescan_at:
                await self._rescan(reader)
                rescan_at = loop.time() + self._rescan_s
            elif changed:
                await self._read(reader, changed)
                await _in_thread(self.index.commit)

    async def _gather(self, news: Connection, message: Any) -> set[bytes] | None:
        """The keys of this message and of those that come within SETTLE_S; None: everything changed."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_S
        changed: set[bytes] = set()
        everything = False
        while message is not None:
            if message[0] == b"message":
                everything = everything or message[2] is None  # FLUSHALL
                changed.update(message[2] or ())
            left_s = until - loop.time()
            if left_s <= 0 or not (changed or everything):
                break
            message = await news.read_response(timeout=left_s)
        return None if everything else changed

    async def _rescan(self, reader: Connection) -> None:
        """Compares every hash of the shard with the index."""
        found: set[bytes] = set()
        cursor: Any = b"0"
        while True:
            cursor, keys = await call(
                reader, "SCAN", cursor, "MATCH", f"{SENTENCE_PREFIX}*", "COUNT", SCAN_COUNT, "TYPE", "hash"
            )
            await self._read(reader, keys)
            found.update(keys)
            if int(cursor) == 0:
                break
        await self._read(reader, self.index.keys - found)  # gone, or with another shard
        await _in_thread(self.index.commit)
        if not self.ready.is_set():
            log.info(
                "%s: %d sentences indexed, %d with a vector",
                self.address,
                self.index.sentences,
                self.index.vectors(),
            )
        self.ready.set()

    async def _look_at_leaving(self, reader: Connection) -> None:
        now = asyncio.get_running_loop().time()
        if not self._leaving or now < self._look_at:
            return
        self._look_at = now + LEAVING_LOOK_S
        await self._drop_arrived()
        overdue = [key for key, until in self._leaving.items() if until < now]
        if overdue:
            await self._read(reader, overdue)
            await _in_thread(self.index.commit)

    async def _read(self, reader: Connection, keys: Iterable[bytes]) -> None:
        """Reads these hashes into the index; what is gone, or is no hash any more, is dropped. What another
        shard has now is to leave.

        A key may be that of the sentences, of the vectors or of the state. Indexing takes its time, so it is
        done in a thread, a batch at a time.
        """
        remaining = iter({_SENTENCES + _article_and_tag(key) for key in keys})
        while batch := list(islice(remaining, HASHES_AT_ONCE)):
            commands = [command for key in batch for command in _commands(_article_and_tag(key))]
            # A slot may be on its way here: what has come already is read for the asking.
            asked = [each for command in commands for each in (("ASKING",), command)]
            await reader.send_packed_command(reader.pack_commands(asked))
            replies = [await _fields_of_hash(reader) for _ in asked][1::2]
            await _in_thread(self._put, batch, replies, asyncio.get_running_loop().time())

    def _put(self, keys: list[bytes], replies: list[Reply], now: float) -> None:
        for key, *read in zip(keys, replies[::3], replies[1::3], replies[2::3], strict=True):
            if self._stops:  # fifty articles may take seconds
                return
            if None in read and key in self.index and self._leaving.setdefault(key, now + LEAVES_S) >= now:
                continue  # stays as it was
            self._leaving.pop(key, None)
            sentences, vectors, year = (reply or [] for reply in read)
            self.index.put(key, _as_dict(sentences), _as_dict(vectors), _as_year(year))


async def _in_thread(change: Callable[..., None], *arguments: Any) -> None:
    """To its end, even for one that is stopped: who follows next with the same index must be the only one
    that changes it."""
    running = asyncio.ensure_future(asyncio.to_thread(change, *arguments))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _article_and_tag(key: bytes) -> bytes:
    return key[key.index(b":") + 1 :]


def _commands(article_and_tag: bytes) -> list[tuple[str | bytes, ...]]:
    """What is read of an article, one command for each of `PREFIXES`."""
    return [
        ("HGETALL", _SENTENCES + article_and_tag),
        ("HGETALL", _VECTORS + article_and_tag),
        ("HMGET", _STATE + article_and_tag, "year"),
    ]


def _as_dict(flat: list[bytes | None]) -> Fields:
    return dict(zip(flat[::2], flat[1::2], strict=True))  # type: ignore[arg-type]  # HGETALL has no nil


def _as_year(replied: list[bytes | None]) -> int | None:
    value = replied[0] if replied else None
    return int(value) if value and len(value) <= YEAR_DIGITS and value.isdigit() else None


async def _fields_of_hash(reader: Connection) -> Reply:
    """Empty for what is no hash any more. (A server that is in no cluster refuses ASKING.)

    Any other error (CLUSTERDOWN, LOADING: SCAN goes on then, HGETALL does not) says nothing about the
    sentences: it is raised, to try again later.
    """
    try:
        flat: Reply = await reader.read_response(timeout=READ_TIMEOUT_S)
    except AskError:  # MOVED too
        return None
    except RedisError as error:
        text = str(error)
        if not (text.startswith("WRONGTYPE") or "support disabled" in text):
            raise
        flat = []
    if flat is None:
        raise RedisConnectionError(f"no answer within {READ_TIMEOUT_S} s")
    return flat
