"""Takes articles in the CORD-19 JSON format into the cluster, as sentences.

Fields used: `paper_id`, `metadata.title`, `metadata.year/month/day` (optional), `body_text[].text`.
An article is named by its file without `.json` if that begins with its paper_id (`PMC169038.xml.json`
-> `PMC169038.xml`), else by its paper_id. It goes to the shard that owns the slot of its name:

    article:<name>          hash: title, year, month, day, source
    sentence:<name>:{tag}   hash: index -> sentence; tag is that shard's

Loading again writes only what changed, and removes sentences that the article no longer has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sentencex
from redis.cluster import RedisCluster

from keymiss import keys

MAX_FILE_BYTES = 64 << 20
"""The largest CORD-19 articles (theses) are below 10 MB; larger is not an article."""
MAX_SENTENCE_CHARS = 4000
"""About twice what a 512-token model reads; longer "sentences" (tables, lists) are cut between words."""
MAX_NAME_CHARS = 256
WRITE_BATCH = 500
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
BLANK = re.compile(r"\s+")


class BadArticle(ValueError):
    """A file that is not an article; the text says why."""


@dataclass(frozen=True, slots=True)
class Article:
    """One article: its name as in keys, the fields of its hash, its sentences in order."""

    name: str
    fields: dict[str, str]
    sentences: list[str]


@dataclass(slots=True)
class LoadReport:
    """What a load did. `bad` has (file, why); sentences are counted; `written` and `removed`: changes."""

    articles: int = 0
    sentences: int = 0
    written: int = 0
    removed: int = 0
    bad: list[tuple[Path, str]] = field(default_factory=list)


def clean(text: str) -> str:
    """One line: control characters and runs of blanks become one space; lone surrogates are replaced."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return BLANK.sub(" ", CONTROL.sub(" ", text)).strip()


def cut(sentence: str, limit: int = MAX_SENTENCE_CHARS) -> list[str]:
    """The sentence in pieces of at most `limit` characters, cut between words where there are any."""
    pieces = []
    while len(sentence) > limit:
        at = sentence.rfind(" ", 1, limit + 1)
        at = at if at > 0 else limit
        pieces.append(sentence[:at].strip())
        sentence = sentence[at:].strip()
    if sentence:
        pieces.append(sentence)
    return pieces


def split_sentences(paragraphs: Iterable[str]) -> list[str]:
    """The sentences of the paragraphs in order, cleaned; those without a letter or digit are left out."""
    found = []
    for paragraph in paragraphs:
        for sentence in sentencex.segment("en", clean(paragraph)):
            for piece in cut(clean(sentence)):
                if any(letter.isalnum() for letter in piece):
                    found.append(piece)
    return found


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadArticle(f"{what} is {type(value).__name__}, not text")
    return value


def _name(path: Path, paper_id: str) -> str:
    stem = path.name.removesuffix(".json")
    name = stem if paper_id and stem.startswith(paper_id) else paper_id
    if len(name) > MAX_NAME_CHARS:
        raise BadArticle(f"paper_id is longer than {MAX_NAME_CHARS} characters")
    if CONTROL.search(name) or any(letter.isspace() for letter in name):
        raise BadArticle("paper_id has blanks or control characters")
    try:
        name.encode()
        return keys.check_article(name)
    except UnicodeEncodeError:
        raise BadArticle("paper_id is not valid Unicode") from None
    except ValueError as error:
        raise BadArticle(f"paper_id: {error}") from None


def read_article(path: Path) -> Article:
    """Reads one file. Raises BadArticle."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BadArticle(f"{size} bytes; the limit is {MAX_FILE_BYTES}")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadArticle(error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise BadArticle("not UTF-8") from None
    except RecursionError:
        raise BadArticle("nested too deeply") from None
    except ValueError as error:
        if isinstance(error, BadArticle):
            raise
        raise BadArticle(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadArticle("not a JSON object")
    name = _name(path, _text(data.get("paper_id"), "paper_id"))
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        raise BadArticle("metadata is missing or not an object")
    body = data.get("body_text")
    if not isinstance(body, list) or not all(isinstance(part, dict) for part in body):
        raise BadArticle("body_text is missing or not a list of objects")
    paragraphs = [_text(part.get("text"), "body_text[].text") for part in body]
    fields = {"title": clean(_text(metadata.get("title", ""), "metadata.title")), "source": clean(path.name)}
    for part_of_date in ("year", "month", "day"):
        value = metadata.get(part_of_date)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 16:
                raise BadArticle(f"metadata.{part_of_date} is not a number")
            fields[part_of_date] = clean(str(value))
    sentences = split_sentences(paragraphs)
    if not sentences:
        raise BadArticle("body_text has no sentence")
    return Article(name, fields, sentences)


class ShardTags:
    """The hashtag of the shard that owns an article, from the cluster's slot table (read once)."""

    def __init__(self, client: RedisCluster) -> None:
        self._lowest: dict[str, int] = {}
        self._owner: dict[int, str] = {}
        for slot in range(keys.SLOTS):
            node = client.nodes_manager.get_node_from_slot(slot).name
            self._lowest.setdefault(node, slot)
            self._owner[slot] = node

    def tag_of(self, article: str) -> str:
        """The tag (without braces) for an article's sentences."""
        return keys.tag_for_slot(self._lowest[self._owner[keys.slot_of(article)]])


def _decoded(flat: dict[Any, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    return {text(name): text(value) for name, value in flat.items()}


def _update(client: RedisCluster, key: str, wanted: dict[str, str]) -> tuple[int, int]:
    """Makes the hash at key just `wanted`; returns (fields written, fields removed)."""
    there = _decoded(client.hgetall(key))
    changed = [(name, value) for name, value in wanted.items() if there.get(name) != value]
    surplus = [name for name in there if name not in wanted]
    for i in range(0, len(changed), WRITE_BATCH):
        client.hset(key, mapping=dict(changed[i : i + WRITE_BATCH]))
    for i in range(0, len(surplus), WRITE_BATCH):
        client.hdel(key, *surplus[i : i + WRITE_BATCH])
    return len(changed), len(surplus)


def store_article(client: RedisCluster, tags: ShardTags, article: Article) -> tuple[int, int]:
    """Writes what changed of an article; returns (sentences written, sentences removed)."""
    _update(client, keys.article_key(article.name), article.fields)
    wanted = {str(idx): sentence for idx, sentence in enumerate(article.sentences)}
    return _update(client, keys.sentence_key(article.name, tags.tag_of(article.name)), wanted)


def load_files(
    client: RedisCluster, paths: Iterable[Path], done: Callable[[Path], None] = lambda path: None
) -> LoadReport:
    """Loads the files; a bad one is reported and skipped. `done` is called after each file."""
    report, tags = LoadReport(), ShardTags(client)
    for path in paths:
        try:
            article = read_article(path)
        except BadArticle as error:
            report.bad.append((path, str(error)))
        else:
            written, removed = store_article(client, tags, article)
            report.articles += 1
            report.sentences += len(article.sentences)
            report.written += written
            report.removed += removed
        done(path)
    return report
