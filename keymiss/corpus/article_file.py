"""An article's file in the CORD-19 JSON format, parsed and checked.

A file is ``{"paper_id", "metadata": {"title", "authors", "year", "month", "day", "journal", "url"},
"abstract": [{"text"}], "body_text": [{"text"}]}``; other members are ignored. The article is named by
paper_id, without the ending of a file ("PMC1.xml": PMC1). What the file does not say of title, date, authors,
journal, address and abstract comes from the paper's row in metadata.csv (`keymiss.corpus.paper_table`), if
there is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from keymiss.corpus.article_name import checked_name, without_ending
from keymiss.corpus.paper_table import NO_PAPER, Paper, pmc_address
from keymiss.corpus.prose import CONTROL, clean, join_paragraphs

ARTICLE_FIELDS = ("title", "year", "month", "day", "source", "authors", "journal", "url")
"""Of the hash ``article:<article>``; authors with "; " between them."""
MAX_FILE_BYTES = 64 << 20
"""The largest CORD-19 articles (theses) are below 10 MB; larger is not an article."""
MAX_PARAGRAPH_CHARS = 1_000_000
"""Half of a long novel: more in one paragraph is a file that lost its line breaks, or no prose at all."""
MAX_AUTHORS = 1000
"""More are a collaboration's list; the first ones are kept."""
HEAD_BYTES = 4096
PMC_ENDING = ".xml.json"
"""What the files of pmc_json are called behind their paper_id."""

_FIRST_MEMBER = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"paper_id"\s*:\s*("(?:[^"\\]|\\.)*")')
_ADDRESS = re.compile(r"https?://\S+")
_ABSTRACT_LABEL = re.compile(r"^abstract\b[\s.:]*", re.IGNORECASE)


class BadArticle(ValueError):
    """A file that is not an article; the text says why."""


@dataclass(frozen=True, slots=True)
class Article:
    """One article: its name as in keys, the fields of its hash, its paragraphs (cleaned, none empty; the
    abstract's first).

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


def is_pmc_parse(path: Path) -> bool:
    """Whether a file is of pmc_json: made from the publisher's XML, not from a PDF."""
    return path.name.endswith(PMC_ENDING) or path.parent.name == "pmc_json"


def name_in(path: Path) -> str:
    """The article's name, not checked, as a rule from the file's first bytes; empty when there is none."""
    try:
        with path.open("rb") as file:
            found = _FIRST_MEMBER.match(file.read(HEAD_BYTES))
        paper_id = json.loads(found[1]) if found else _object(_data(path)).get("paper_id")
    except (BadArticle, OSError, ValueError):
        return ""
    return without_ending(paper_id) if isinstance(paper_id, str) else ""


def read_article(path: Path, paper: Paper = NO_PAPER) -> Article:
    """Reads one file. Raises BadArticle."""
    return parse_article(_data(path), path.name, paper)


def parse_article(data: bytes, file_name: str = "", paper: Paper = NO_PAPER) -> Article:
    """The article in a JSON text. `file_name`: of the file that it came in, if in one; `paper`: what else is
    known of it. Raises BadArticle."""
    parsed = _object(data)
    try:
        name = checked_name(_text(parsed.get("paper_id"), "paper_id"))
    except ValueError as error:
        raise BadArticle(str(error)) from None
    metadata = parsed.get("metadata")
    if not isinstance(metadata, dict):
        raise BadArticle("metadata is missing or not an object")
    fields = _fields(metadata, name, file_name, paper)
    body = _paragraphs(parsed.get("body_text"), "body_text")
    abstract = parsed.get("abstract") or []
    if isinstance(abstract, str):
        abstract = [{"text": abstract}]
    raw_abstract = _paragraphs(abstract, "abstract")
    if not any(map(clean, raw_abstract)):
        raw_abstract = [paper.abstract]
    cleaned = [one for paragraph in body if (one := clean(paragraph))]
    paragraphs = [*_not_repeated(map(clean, raw_abstract), cleaned), *cleaned]
    if not any(letter.isalnum() for paragraph in paragraphs for letter in paragraph):
        raise BadArticle("body_text has no sentence, and there is no abstract")
    return Article(name, fields, paragraphs, tuple(_notes([*raw_abstract, *body])))


def _data(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BadArticle(f"{size} bytes; the limit is {MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise BadArticle(error.strerror or str(error)) from None


def _object(data: bytes) -> dict[str, Any]:
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
    return parsed


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadArticle(f"{what} is {type(value).__name__}, not text")
    return value


def _paragraphs(parts: Any, what: str) -> list[str]:
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise BadArticle(f"{what} is missing or not a list of objects")
    paragraphs = [_text(part.get("text"), f"{what}[].text") for part in parts]
    for number, paragraph in enumerate(paragraphs):
        if len(paragraph) > MAX_PARAGRAPH_CHARS:
            raise BadArticle(
                f"{what}[{number}].text has {len(paragraph)} characters; the limit of one paragraph is "
                f"{MAX_PARAGRAPH_CHARS}: split it"
            )
    return paragraphs


def _not_repeated(abstract: Iterable[str], body: Sequence[str]) -> Iterator[str]:
    """The paragraphs of the abstract that the text does not have once more, often as its first ones."""
    given = [paragraph for paragraph in abstract if paragraph]
    text = _letters("".join(body)) if given else ""
    for paragraph in given:
        if _letters(_ABSTRACT_LABEL.sub("", paragraph)) not in text:
            yield paragraph


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _fields(metadata: dict[str, Any], name: str, file_name: str, paper: Paper) -> dict[str, str]:
    """Of ``article:<article>``: what the file says, and what it does not say, the paper's row."""
    date = dict(_date(metadata)) or paper.date
    url = _of(metadata, "url")
    if url and not _ADDRESS.fullmatch(url):
        raise BadArticle("metadata.url is not an address (https://...)")
    said = {
        "authors": "; ".join(_authors(metadata.get("authors"))) or paper.authors,
        "journal": _of(metadata, "journal") or paper.journal,
        "url": url or paper.url or (pmc_address(name) if file_name == f"{name}{PMC_ENDING}" else ""),
    }
    always = {"title": _of(metadata, "title") or paper.title, "source": clean(file_name)}
    return always | date | {field: value for field, value in said.items() if value}


def _of(metadata: dict[str, Any], name: str) -> str:
    value = metadata.get(name)
    return "" if value is None else clean(_text(value, f"metadata.{name}"))


def _date(metadata: dict[str, Any]) -> Iterator[tuple[str, str]]:
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
        yield part_of_date, str(int(digits))


def _authors(authors: Any) -> Iterator[str]:
    """``[{"first", "middle": [], "last", "suffix"}]`` as names. They are shown only: one that is no name is
    left out."""
    for author in islice(authors if isinstance(authors, list) else [], MAX_AUTHORS):
        if isinstance(author, dict):
            middle = author.get("middle")
            middle = middle if isinstance(middle, list) else []
            parts = [author.get("first"), *middle, author.get("last"), author.get("suffix")]
            if name := clean(" ".join(part for part in parts if isinstance(part, str))):
                yield name


def _notes(paragraphs: Sequence[str]) -> Iterator[str]:
    plain = [paragraph.replace("\n", " ").replace("\r", " ").replace("\t", " ") for paragraph in paragraphs]
    controls = sum(len(run) for paragraph in plain for run in CONTROL.findall(paragraph))
    if controls:
        yield f"{controls} control characters made blanks"
    surrogates = sum("\ud800" <= letter <= "\udfff" for paragraph in paragraphs for letter in paragraph)
    if surrogates:
        yield f"{surrogates} characters that are not valid Unicode replaced"
