"""Loading articles into the cluster: files in the CORD-19 JSON format to keys.

Two keys are written of each article, the first one first:

    article:<name>       hash: title, year, month, day, source, authors, journal, url
    paragraphs:<name>    string: the paragraphs' text, a blank line between two

The rest is made of them by the functions on the shards. Loading again writes only what changed, so a load
that was interrupted goes on when it is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.corpus.article_file import (
    ARTICLE_FIELDS,
    PMC_ENDING,
    Article,
    BadArticle,
    is_pmc_parse,
    name_in,
    read_article,
)
from keymiss.corpus.article_files import ArticleFiles, Parse, by_article

ARTICLES_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Chosen:
    """An article, the file it is read from, and what its other parses are called as articles: `better` ones,
    and `worse` ones, among them what this one was called by earlier versions."""

    article: Article
    path: Path
    better: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()


@dataclass(slots=True)
class LoadReport:
    """What a load did. `names`: the articles that are there now; `written`: those of them that were not there
    or not so, `replaced`: those of these that were there otherwise; `renamed`: (what it was loaded as before,
    article); `bytes`: of their text.

    `bad` has (file, why), `notes` (file, what was repaired), `other_parses` (file, what has its article)."""

    names: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    bytes: int = 0
    bad: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)
    other_parses: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a load: how many files it went through, the articles of them that are there now, the names of
    those of them that were written, how many of these replaced others."""

    files: int
    articles: Sequence[Article]
    written: frozenset[str]
    replaced: int


def load_files(client: RedisCluster, paths: Iterable[Path]) -> LoadReport:
    """Loads files without a metadata.csv."""
    report = LoadReport()
    load_articles(client, by_article(Parse(path, name_in(path)) for path in paths), report)
    return report


def load_articles(
    client: RedisCluster,
    articles: Iterable[ArticleFiles],
    report: LoadReport,
    done: Callable[[Step], None] = lambda step: None,
) -> None:
    """Loads one parse of each; what is done stands in `report` at every moment. `done` is called
    after each ARTICLES_AT_ONCE."""
    remaining, loaded = iter(articles), set[str]()
    while batch := list(islice(remaining, ARTICLES_AT_ONCE)):
        chosen = [found for files in batch if (found := _choose(files, report))]
        loaded.update(each.article.name for each in chosen)
        before, replaced = len(report.written), len(report.replaced)
        there = _write(client, chosen, loaded, report)
        report.names += [article.name for article in there]
        report.bytes += sum(len(article.text.encode()) for article in there)
        written = frozenset(report.written[before:])
        files = sum(len(each.parses) for each in batch)
        done(Step(files, there, written, len(report.replaced) - replaced))


def _choose(files: ArticleFiles, report: LoadReport) -> Chosen | None:
    """The best parse that can be read; None when none can."""
    chosen = None
    for parse in files.parses:
        path = parse.path
        if chosen is not None:
            same = parse.name == chosen.article.name and is_pmc_parse(path) == is_pmc_parse(chosen.path)
            if same:
                report.bad.append((path, f"article {parse.name} was in {chosen.path} already"))
            else:
                report.other_parses.append((path, f"{chosen.article.name} from {chosen.path}"))
            continue
        paper = files.paper(parse)
        try:
            article = read_article(path, paper)
        except BadArticle as error:
            report.bad.append((path, str(error)))
            continue
        report.notes += [(path, note) for note in article.notes]
        names = list(paper.articles)
        at = names.index(article.name) if article.name in names else 0
        before = [f"{article.name}.xml"] if path.name == f"{article.name}{PMC_ENDING}" else []
        chosen = Chosen(article, path, tuple(names[:at]), tuple([*names[at + 1 :], *before]))
    return chosen


def _write(
    client: RedisCluster,
    chosen: Sequence[Chosen],
    loaded: set[str],
    report: LoadReport,
) -> list[Article]:
    """Writes articles, what changed only, and the text of those whose sentences were evicted; removes what
    was loaded of worse parses of them. Returns those that are there now: all but those of which a better
    parse is there. The hash comes before the text, because the text starts the work that reads the hash."""
    chosen = _without_better(client, chosen, loaded, report)
    reads = client.pipeline()
    for article in (each.article for each in chosen):
        reads.hgetall(keys.article_key(article.name))
        reads.get(keys.paragraphs_key(article.name))
        sentences = keys.sentence_key(article.name, keys.article_tag(article.name))
        reads.hexists(keys.evicted_key(keys.part_of(sentences)), sentences)
    there = reads.execute()
    heads, texts = client.pipeline(), client.pipeline()
    for each, known, text, evicted in zip(chosen, there[::3], there[1::3], there[2::3], strict=True):
        article = each.article
        wanted = {name.encode(): value.encode() for name, value in article.fields.items()}
        fields = {_bytes(name): _bytes(value) for name, value in known.items()}
        new_head = fields != wanted
        new_text = evicted or (None if text is None else _bytes(text)) != article.text.encode()
        if new_head:
            heads.hset(keys.article_key(article.name), mapping=article.fields)
            absent = [name for name in ARTICLE_FIELDS if name not in article.fields]
            if absent:
                heads.hdel(keys.article_key(article.name), *absent)
        if new_text:
            texts.set(keys.paragraphs_key(article.name), article.text)
        if new_head or new_text:
            report.written.append(article.name)
            if known or text is not None:
                report.replaced.append(article.name)
    heads.execute()
    texts.execute()
    _remove_worse(client, chosen, loaded, report)
    return [each.article for each in chosen]


def _without_better(
    client: RedisCluster, chosen: Sequence[Chosen], loaded: set[str], report: LoadReport
) -> list[Chosen]:
    there = _there(client, (name for each in chosen for name in each.better if name not in loaded))
    left = []
    for each in chosen:
        better = next((name for name in each.better if name in there), None)
        if better is None:
            left.append(each)
        else:
            report.other_parses.append((each.path, f"{better}, which is loaded"))
    return left


def _remove_worse(
    client: RedisCluster, chosen: Sequence[Chosen], loaded: set[str], report: LoadReport
) -> None:
    """After the better ones are written: an interruption leaves an article twice, not without."""
    worse = {name: each for each in chosen for name in each.worse if name not in loaded}
    removing = client.pipeline()
    for name in _there(client, worse):
        removing.delete(keys.paragraphs_key(name))
        removing.delete(keys.article_key(name))
        report.renamed.append((name, worse[name].article.name))
    removing.execute()


def _there(client: RedisCluster, names: Iterable[str]) -> list[str]:
    """Those of the articles that are in the cluster. A name that no key can have is none."""
    possible = [name for name in dict.fromkeys(names) if not set(name) & set("_{}\0")]
    reads = client.pipeline()
    for name in possible:
        reads.exists(keys.paragraphs_key(name))
    return [name for name, exists in zip(possible, reads.execute(), strict=True) if exists]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
