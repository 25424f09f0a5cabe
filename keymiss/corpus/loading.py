"""Loading articles into the cluster: the CORD-19 JSON format to keys.

A file is ``{"paper_id", "metadata": {"title", "year", "month", "day"}, "body_text": [{"text"}]}``; other
members are ignored. An article is named by its file when that begins with its paper_id
("PMC1.xml.json", paper_id "PMC1": PMC1.xml), else by its paper_id. Two keys are written, the first one first:

    article:<name>       hash: title, year, month, day, source
    paragraphs:<name>    string: the paragraphs' text, a blank line between two

The rest is made of them by the functions on the shards. Loading again writes only what changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.topology import Shard, shard_of
from keymiss.corpus.prose import CONTROL, clean, join_paragraphs, split_sentences

__all__ = [
    "Article",
    "BadArticle",
    "LoadReport",
    "article_tag",
    "load_files",
    "parse_article",
    "read_article",
    "split_sentences",
]

MAX_FILE_BYTES = 64 << 20
"""The largest CORD-19 articles (theses) are below 10 MB; larger is not an article."""
MAX_PARAGRAPH_CHARS = 1_000_000
"""Half of a long novel: more in one paragraph is a file that lost its line breaks, or no prose at all."""
MAX_NAME_CHARS = 256
ARTICLES_AT_ONCE = 32
ARTICLE_FIELDS = ("title", "year", "month", "day", "source")


class BadArticle(ValueError):
    """A file that is not an article; the text says why."""


@dataclass(frozen=True, slots=True)
class Article:
    """One article: its name as in keys, the fields of its hash, its paragraphs (cleaned, none empty).

    `notes` says what was repaired.
    """

    name: str
    fields: dict[str, str]
    paragraphs: list[str]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What goes to ``paragraphs:<name>``."""
        return join_paragraphs(self.paragraphs)


@dataclass(slots=True)
class LoadReport:
    """What a load did. `bad` has (file, why), `notes` (file, what was repaired); `names`: the articles that
    are there now, `changed`: those of them that were written; `bytes`: of their text."""

    names: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    bytes: int = 0
    bad: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadArticle(f"{what} is {type(value).__name__}, not text")
    return value


def _name(file_name: str, paper_id: str) -> str:
    stem = file_name.removesuffix(".json")
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
        data = path.read_bytes()
    except OSError as error:
        raise BadArticle(error.strerror or str(error)) from None
    return parse_article(data, path.name)


def parse_article(data: bytes, name_hint: str = "") -> Article:
    """The article in a JSON text. `name_hint`: the file's name, if it came in one. Raises BadArticle."""
    try:
        parsed = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadArticle("not UTF-8") from None
    except RecursionError:
        raise BadArticle("nested too deeply") from None
    except ValueError as error:
        raise BadArticle(f"not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise BadArticle("not a JSON object")
    name = _name(name_hint, _text(parsed.get("paper_id"), "paper_id"))
    metadata = parsed.get("metadata")
    if not isinstance(metadata, dict):
        raise BadArticle("metadata is missing or not an object")
    fields = _fields(metadata, name_hint)
    raw = _paragraphs(parsed.get("body_text"))
    paragraphs = [cleaned for paragraph in raw if (cleaned := clean(paragraph))]
    if not any(letter.isalnum() for paragraph in paragraphs for letter in paragraph):
        raise BadArticle("body_text has no sentence")
    return Article(name, fields, paragraphs, tuple(_notes(raw)))


def _paragraphs(body: Any) -> list[str]:
    if not isinstance(body, list) or not all(isinstance(part, dict) for part in body):
        raise BadArticle("body_text is missing or not a list of objects")
    paragraphs = [_text(part.get("text"), "body_text[].text") for part in body]
    for number, paragraph in enumerate(paragraphs):
        if len(paragraph) > MAX_PARAGRAPH_CHARS:
            raise BadArticle(
                f"body_text[{number}].text has {len(paragraph)} characters; the limit of one paragraph is "
                f"{MAX_PARAGRAPH_CHARS}: split it"
            )
    return paragraphs


def _fields(metadata: dict[str, Any], source: str) -> dict[str, str]:
    fields = {"title": clean(_text(metadata.get("title", ""), "metadata.title")), "source": clean(source)}
    for part_of_date in ("year", "month", "day"):
        value = metadata.get(part_of_date)
        if value is None:
            continue
        digits = str(value).strip()
        if (
            isinstance(value, bool)
            or not isinstance(value, int | str)
            or not digits.isdecimal()
            or len(digits) > 4
        ):
            raise BadArticle(f"metadata.{part_of_date} is not a number of at most 4 digits")
        fields[part_of_date] = str(int(digits))
    return fields


def _notes(paragraphs: Sequence[str]) -> Iterator[str]:
    plain = [paragraph.replace("\n", " ").replace("\r", " ").replace("\t", " ") for paragraph in paragraphs]
    controls = sum(len(run) for paragraph in plain for run in CONTROL.findall(paragraph))
    if controls:
        yield f"{controls} control characters made blanks"
    surrogates = sum("\ud800" <= letter <= "\udfff" for paragraph in paragraphs for letter in paragraph)
    if surrogates:
        yield f"{surrogates} characters that are not valid Unicode replaced"


def article_tag(shards: Iterable[Shard], article: str) -> str:
    """The tag (without braces) of an article's sentences: that of the shard that owns
    ``paragraphs:<article>``. Raises NoShard."""
    return shard_of(shards, keys.paragraphs_key(article)).tag


def _write(client: RedisCluster, articles: Sequence[Article], shards: Sequence[Shard]) -> list[Article]:
    """Writes articles, what changed only, and the text of those whose sentences were evicted; returns those
    that it wrote. The hash comes before the text, because the text starts the work that reads the hash."""
    reads = client.pipeline()
    for article in articles:
        reads.hgetall(keys.article_key(article.name))
        reads.get(keys.paragraphs_key(article.name))
        tag = article_tag(shards, article.name)
        reads.hexists(keys.evicted_key(tag), keys.sentence_key(article.name, tag))
    there = reads.execute()
    heads, texts = client.pipeline(), client.pipeline()
    changed = []
    for article, known, text, evicted in zip(articles, there[::3], there[1::3], there[2::3], strict=True):
        wanted = {name.encode(): value.encode() for name, value in article.fields.items()}
        fields = {_bytes(name): _bytes(value) for name, value in known.items()}
        new_head, new_text = (
            fields != wanted,
            evicted or (None if text is None else _bytes(text)) != article.text.encode(),
        )
        if new_head:
            heads.hset(keys.article_key(article.name), mapping=article.fields)
            absent = [name for name in ARTICLE_FIELDS if name not in article.fields]
            if absent:
                heads.hdel(keys.article_key(article.name), *absent)
        if new_text:
            texts.set(keys.paragraphs_key(article.name), article.text)
        if new_head or new_text:
            changed.append(article)
    heads.execute()
    texts.execute()
    return changed


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def load_files(
    client: RedisCluster, paths: Iterable[Path], done: Callable[[Path], None] = lambda path: None
) -> LoadReport:
    """Loads the files; a bad one is reported and skipped, and so is one whose article another file brought
    already. `done` is called after each file."""
    report, shards = LoadReport(), shards_of(client)
    first_file: dict[str, Path] = {}
    remaining = iter(paths)
    while batch := list(islice(remaining, ARTICLES_AT_ONCE)):
        articles = []
        for path in batch:
            try:
                article = read_article(path)
                if article.name in first_file:
                    raise BadArticle(f"article {article.name} was in {first_file[article.name]} already")
            except BadArticle as error:
                report.bad.append((path, str(error)))
            else:
                first_file[article.name] = path
                articles.append(article)
                report.notes += [(path, note) for note in article.notes]
        if articles:
            report.changed += [article.name for article in _write(client, articles, shards)]
            report.names += [article.name for article in articles]
            report.bytes += sum(len(article.text.encode()) for article in articles)
        for path in batch:
            done(path)
    return report
