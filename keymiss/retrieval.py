"""Lexical retrieval: which sentences of a shard may answer a question (BM25, one index a shard).

A shard's index is a tantivy index in memory, made from the shard's ``sentence:*`` hashes by SCAN.
From then on the shard itself says what changed: one connection asks for invalidation messages of the
prefix ``sentence:`` (CLIENT TRACKING, broadcast mode) and every hash named is read again, so a new
sentence is found within about ``SETTLE_S``. After a lost connection, and every ``rescan_s``, all
hashes are compared with the index (by digest; only what differs is written).

tantivy rather than bm25s: it takes single documents in and out; bm25s builds a whole index anew.

An index is used from one event loop; `ShardIndex` itself is safe to search from another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import tantivy
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, RedisError

from keymiss.keys import SENTENCE_PREFIX, sentence_id

log = logging.getLogger(__name__)

SETTLE_S = 0.2  # changes that come together are written together
PING_S = 5.0  # a silent connection is asked whether it is alive
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.25, 2.0
SCAN_COUNT = 1000
HASHES_AT_ONCE = 50
WRITER_BYTES = 15_000_000  # the least tantivy accepts for a writer's buffer
MAX_QUERY_TERMS = 64  # of a question of 512 characters at most
LONGEST_TERM_BYTES = 60

INVALIDATIONS = b"__redis__:invalidate"

# English; a question made of nothing else is searched with them.
FUNCTION_WORDS = """
    a about above after again against all also am among an and any are as at be because been before being
    below between both but by can could did do does doing down during each few for from further had has have
    having he her here hers herself him himself his how i if in into is it its itself just may me might more
    most must my myself no nor not now of off on once only or other our ours ourselves out over own same shall
    she should so some such than that the their theirs them themselves then there these they this those
    through to too under until up upon us very was we were what when where which while who whom whose why will
    with would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(FUNCTION_WORDS.split())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may hold the answer."""

    article: str
    tag: str
    idx: str
    sentence: str
    bm25: float

    @property
    def sentencekey(self) -> str:
        """``<article>:{tag}:<idx>``, as in the answer's key."""
        return sentence_id(self.article, self.tag, self.idx)


def parse_sentence_key(key: bytes) -> tuple[str, str] | None:
    """``sentence:<article>:{tag}`` to (article, tag); None when the key is not of that form."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    article, middle, tag = text.removeprefix(SENTENCE_PREFIX).rpartition(":{")
    if not (text.startswith(SENTENCE_PREFIX) and middle and tag.endswith("}")):
        return None
    try:
        sentence_id(article, tag, 0)  # raises when the article's name cannot be part of a key
    except ValueError:
        return None
    return article, tag[:-1]


def _analyzer() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        tantivy.Filter.remove_long(LONGEST_TERM_BYTES),
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.stemmer("English"),
    ):
        builder = builder.filter(step)
    return builder.build()


def _plain_analyzer() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    return builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold()).build()


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("key", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("article", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("tag", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("idx", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("body", stored=True, tokenizer_name="keymiss_en", index_option="freq")
    return builder.build()


class ShardIndex:
    """The sentences of one shard. `put` and `drop` take effect at `commit`."""

    def __init__(self) -> None:
        self._schema = _schema()
        self._stemming, self._plain = _analyzer(), _plain_analyzer()
        self._index = tantivy.Index(self._schema)
        self._index.register_tokenizer("keymiss_en", self._stemming)
        self._writer: Any = self._index.writer(heap_size=WRITER_BYTES, num_threads=1)
        self._digests: dict[bytes, bytes] = {}
        self._changed = False

    @property
    def keys(self) -> set[bytes]:
        """The hashes that are in the index."""
        return set(self._digests)

    @property
    def sentences(self) -> int:
        """How many sentences can be found."""
        return int(self._index.searcher().num_docs)

    def put(self, key: bytes, fields: Mapping[bytes, bytes]) -> None:
        """Makes the index hold exactly these sentences for one ``sentence:*`` hash."""
        parsed = parse_sentence_key(key)
        if parsed is None:
            log.warning("not indexed, because the key is not sentence:<article>:{tag}: %r", key)
            return
        digest = _digest(fields)
        if self._digests.get(key) == digest:
            return
        self.drop(key)
        if not fields:
            return
        article, tag = parsed
        for idx, sentence in fields.items():
            document = tantivy.Document(
                key=key.decode(),
                article=article,
                tag=tag,
                idx=idx.decode(errors="replace"),
                body=sentence.decode(errors="replace"),
            )
            self._writer.add_document(document)
        self._digests[key] = digest
        self._changed = True

    def drop(self, key: bytes) -> None:
        """Takes a hash's sentences out."""
        if self._digests.pop(key, None) is not None:
            self._writer.delete_documents_by_term("key", key.decode())
            self._changed = True

    def commit(self) -> None:
        """Makes what was put and dropped visible to `search`."""
        if self._changed:
            self._writer.commit()
            self._index.reload()
            self._changed = False

    def query_terms(self, question: str) -> list[str]:
        """The stems to look for: no operators, no stop words (unless there is nothing else)."""
        words = list(dict.fromkeys(self._plain.analyze(question)))
        content = [word for word in words if word not in STOP_WORDS] or words
        return list(dict.fromkeys(self._stemming.analyze(" ".join(content))))[:MAX_QUERY_TERMS]

    def search(self, question: str, limit: int) -> list[Candidate]:
        """The at most ``limit`` best sentences, best first; equal scores in the order of the index."""
        queries = [
            (tantivy.Occur.Should, tantivy.Query.term_query(self._schema, "body", term, index_option="freq"))
            for term in self.query_terms(question)
        ]
        if not queries or limit < 1:
            return []
        return self._find(tantivy.Query.boolean_query(queries), limit)

    def first(self) -> Candidate | None:
        """Some sentence, as long as there is one."""
        return next(iter(self._find(tantivy.Query.all_query(), 1)), None)

    def _find(self, query: tantivy.Query, limit: int) -> list[Candidate]:
        searcher = self._index.searcher()
        hits = searcher.search(query, limit, count=False).hits
        found = []
        for score, address in hits:
            stored = cast(dict[str, list[str]], searcher.doc(address).to_dict())
            article, tag, idx, body = (stored[name][0] for name in ("article", "tag", "idx", "body"))
            found.append(Candidate(article, tag, idx, body, float(cast(float, score))))
        return found


def _digest(fields: Mapping[bytes, bytes]) -> bytes:
    """Of a hash's content; lengths go in, so that no two contents look alike."""
    digest = hashlib.sha256()
    for idx, sentence in sorted(fields.items()):
        digest.update(b"%d:%d:" % (len(idx), len(sentence)) + idx + sentence)
    return digest.digest()


class ShardFollower:
    """Keeps one shard's index equal to the shard's ``sentence:*`` hashes until `stop`."""

    def __init__(
        self, host: str, port: int, rescan_s: float = 300.0, index: ShardIndex | None = None
    ) -> None:
        self.host, self.port = host, port
        self.index = index or ShardIndex()
        self.ready = asyncio.Event()  # set when the index was complete once
        self._rescan_s = rescan_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts to follow; `ready` says when the first scan is through."""
        self._task = asyncio.create_task(self._run(), name=f"follow {self.host}:{self.port}")

    async def stop(self) -> None:
        """Stops following; the index stays as it is."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                async with (
                    _connection(self.host, self.port) as news,
                    _connection(self.host, self.port) as reader,
                ):
                    await self._track(news)
                    await self._rescan(reader)
                    retry_s = FIRST_RETRY_S
                    await self._listen(news, reader)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("sentences of %s:%s: %s; again in %s s", self.host, self.port, error, retry_s)
            except Exception:  # a fault of ours must not end the refresh for good
                log.exception("sentences of %s:%s", self.host, self.port)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def _track(self, news: Connection) -> None:
        """Subscribes before the first scan, so that no change falls between the two.

        RESP2: the messages are redirected to the connection that asks for them, as pub/sub.
        """
        own_id = await _call(news, "CLIENT", "ID")
        tracking = ("CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST", "PREFIX", SENTENCE_PREFIX)
        await _call(news, *tracking)
        await _call(news, "SUBSCRIBE", INVALIDATIONS)

    async def _listen(self, news: Connection, reader: Connection) -> None:
        loop = asyncio.get_running_loop()
        rescan_at = loop.time() + self._rescan_s
        silent = False
        while True:
            message = await news.read_response(timeout=min(PING_S, max(rescan_at - loop.time(), 0.01)))
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
                await asyncio.to_thread(self.index.commit)

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
            cursor, keys = await _call(
                reader, "SCAN", cursor, "MATCH", f"{SENTENCE_PREFIX}*", "COUNT", SCAN_COUNT, "TYPE", "hash"
            )
            await self._read(reader, keys)
            found.update(keys)
            if int(cursor) == 0:
                break
        for key in self.index.keys - found:
            self.index.drop(key)
        await asyncio.to_thread(self.index.commit)
        if not self.ready.is_set():
            log.info("%s:%s: %d sentences indexed", self.host, self.port, self.index.sentences)
        self.ready.set()

    async def _read(self, reader: Connection, keys: Iterable[bytes]) -> None:
        """Reads these hashes into the index; what is gone, or is no hash any more, is dropped."""
        remaining = iter(keys)
        while batch := list(islice(remaining, HASHES_AT_ONCE)):
            await reader.send_packed_command(reader.pack_commands([("HGETALL", key) for key in batch]))
            for key in batch:
                try:
                    flat = await reader.read_response(timeout=READ_TIMEOUT_S)
                except RedisError as error:
                    # No hash any more, or another shard's: out with it. Anything else (CLUSTERDOWN, LOADING:
                    # SCAN goes on then, HGETALL does not) says nothing about the sentences: try again later.
                    if not (isinstance(error, MovedError) or str(error).startswith("WRONGTYPE")):
                        raise
                    flat = []
                if flat is None:
                    raise RedisConnectionError(f"no answer within {READ_TIMEOUT_S} s")
                self.index.put(key, dict(zip(flat[::2], flat[1::2], strict=True)))


async def _call(connection: Connection, *command: Any) -> Any:
    """One command, one reply. A reply that does not come within READ_TIMEOUT_S is a lost connection."""
    await connection.send_command(*command)
    reply = await connection.read_response(timeout=READ_TIMEOUT_S)
    if reply is None:
        await connection.disconnect(nowait=True)
        raise RedisConnectionError(f"{command[0]}: no answer within {READ_TIMEOUT_S} s")
    return reply


@contextlib.asynccontextmanager
async def _connection(host: str, port: int) -> AsyncIterator[Connection]:
    connection = Connection(
        host=host,
        port=port,
        protocol=2,
        socket_timeout=None,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        client_name="keymiss-retrieval",
        retry=Retry(NoBackoff(), 0),
    )
    try:
        await connection.connect()
        yield connection
    finally:
        await connection.disconnect(nowait=True)


class Retrieval:
    """The indexes of all shards, each followed on its master. Fed by `follow` with the cluster's map."""

    def __init__(self, rescan_s: float = 300.0) -> None:
        self._rescan_s = rescan_s
        self._followers: dict[str, ShardFollower] = {}

    async def follow(self, masters: Mapping[str, tuple[str, int]]) -> None:
        """Shard tag -> (host, port) of its master now. An index moves with its shard to a new master."""
        for tag, old in list(self._followers.items()):
            if masters.get(tag) != (old.host, old.port):
                await old.stop()
                if tag not in masters:
                    del self._followers[tag]
        for tag, (host, port) in masters.items():
            known = self._followers.get(tag)
            if known and (known.host, known.port) == (host, port):
                continue
            follower = ShardFollower(host, port, self._rescan_s, known.index if known else None)
            if known and known.ready.is_set():
                follower.ready.set()
            self._followers[tag] = follower
            follower.start()

    async def stop(self) -> None:
        """Stops following every shard."""
        await self.follow({})

    def sentences(self) -> dict[str, int | None]:
        """Shard tag -> sentences indexed; None while its first scan is not through."""
        return {
            tag: follower.index.sentences if follower.ready.is_set() else None
            for tag, follower in self._followers.items()
        }

    def some_sentence(self, tag: str) -> Candidate | None:
        """Any sentence of a shard, for checks; None when it has none."""
        follower = self._followers.get(tag)
        return follower.index.first() if follower else None

    async def candidates(self, question: str, per_shard: int) -> dict[str, list[Candidate]]:
        """Shard tag -> its best sentences for the question; shards not indexed yet are left out."""
        indexes = {tag: f.index for tag, f in self._followers.items() if f.ready.is_set()}
        return await asyncio.to_thread(
            lambda: {tag: index.search(question, per_shard) for tag, index in indexes.items()}
        )
