"""metadata.csv of CORD-19: what is known of the papers whose parses are loaded.

The file has a million rows and 1.6 GB, so it is read once from beginning to end, and of the rows that name a
wanted article only where they stand is kept; a row is read again when its article is loaded.

A row names a paper by `cord_uid`, and its parses by `pmcid` and `pmc_json_files` (of the publisher's XML),
`sha` and `pdf_json_files` (of PDFs); several are separated by ";". Missing columns and cells count as empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from keymiss.corpus.article_name import without_ending
from keymiss.corpus.csv_rows import rows_of
from keymiss.corpus.prose import clean

FILE_NAME = "metadata.csv"
ID_COLUMNS = ("pmcid", "pmc_json_files", "sha", "pdf_json_files")
"""In the order in which parses are preferred."""
MAX_FAULTS_KEPT = 10
TOLD_EVERY_ROWS = 2000

_CORD_UID = re.compile(r"[a-z0-9]{8}")
_DATE = re.compile(r"([12]\d{3})(?:-(\d{1,2})(?:-(\d{1,2}))?)?(?!\d)")
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_PMC = re.compile(r"PMC\d+")


class BadPapers(ValueError):
    """A file that is not CORD-19's metadata.csv; the text says why."""


@dataclass(frozen=True, slots=True)
class Paper:
    """What a row says. `articles`: what its parses are called as articles, best first; `date`: year, month
    and day as far as they are known; `authors`: names with "; " between them; `url`: the paper's address."""

    articles: tuple[str, ...] = ()
    title: str = ""
    date: dict[str, str] = field(default_factory=dict)
    authors: str = ""
    journal: str = ""
    url: str = ""
    abstract: str = ""


NO_PAPER = Paper()


class Place(NamedTuple):
    """Where an article stands: `paper` is the same for all parses of one; `rank`: the article's among the
    row's parses, 0 the best; `offset` and `line`: of the row."""

    paper: str
    rank: int
    offset: int
    line: int


class PaperTable:
    """One metadata.csv, open until `close` (as with `contextlib.closing`)."""

    def __init__(
        self, path: Path, wanted: Collection[str], tell: Callable[[int], None] = lambda offset: None
    ) -> None:
        """Reads it; `tell` gets how many bytes are read, now and then. `wanted`: names of articles. Raises
        BadPapers and OSError."""
        self.path = path
        self.rows = self.left_out = 0
        self.faults: list[str] = []
        """What is wrong with the first rows that were left out."""
        self._places: dict[str, Place] = {}
        self._file = path.open("rb")
        try:
            rows = rows_of(self._file, 0)
            header = next(rows, None)
            self._columns = _columns(header.cells if header and header.line == 1 else [], path)
            rows = rows_of(self._file, len(self._columns), fault=self._fault)
            next(rows)
            for row in rows:
                self.rows += 1
                if self.rows % TOLD_EVERY_ROWS == 0:
                    tell(row.offset)
                self._note(row.cells, row.offset, row.line, wanted)
        except BaseException:
            self.close()
            raise
        tell(path.stat().st_size)

    def __len__(self) -> int:
        """How many of the wanted articles it names."""
        return len(self._places)

    def close(self) -> None:
        """Nothing can be asked for then."""
        self._file.close()

    def place(self, article: str) -> Place | None:
        """Of an article that was wanted; None when no row names it."""
        return self._places.get(article)

    def paper(self, article: str) -> Paper:
        """What the row says of an article that was wanted; NO_PAPER when there is none."""
        place = self._places.get(article)
        if place is None:
            return NO_PAPER
        row = next(rows_of(self._file, len(self._columns), place.offset, place.line))
        return _paper(dict(zip(self._columns, row.cells, strict=False)))

    def _note(self, cells: Sequence[str], offset: int, line: int, wanted: Collection[str]) -> None:
        said = dict(zip(self._columns, cells, strict=False))
        mine = {name: rank for rank, name in enumerate(_articles(said)) if name in wanted}
        if not mine:
            return
        uid = said.get("cord_uid", "").strip()
        known = next((self._places[name].paper for name in mine if name in self._places), None)
        paper = known or (uid if _CORD_UID.fullmatch(uid) else f"line {line}")
        for name, rank in mine.items():
            self._places.setdefault(name, Place(paper, rank, offset, line))

    def _fault(self, line: int, why: str) -> None:
        self.left_out += 1
        if len(self.faults) < MAX_FAULTS_KEPT:
            self.faults.append(f"line {line}: {why}")


def find_tables(folders: Iterable[Path]) -> list[Path]:
    """Each ``metadata.csv`` in a folder or up to two above it, the nearest one: of
    ``document_parses/pmc_json``, that beside ``document_parses``."""
    found: dict[Path, None] = {}
    for folder in folders:
        absolute = folder.resolve()
        for place in (absolute, *list(absolute.parents)[:2]):
            if (place / FILE_NAME).is_file():
                found[place / FILE_NAME] = None
                break
    return list(found)


def pmc_address(pmcid: str) -> str:
    """Where PubMed Central shows an article; empty when that is not its id."""
    return f"https://www.ncbi.nlm.nih.gov/pmc/articles/{pmcid}/" if _PMC.fullmatch(pmcid) else ""


def _columns(header: Sequence[str], path: Path) -> list[str]:
    columns = [name.strip().lower() for name in header]
    if not set(ID_COLUMNS) & set(columns):
        raise BadPapers(
            f"{path} is not CORD-19's metadata.csv: its first line names none of the columns "
            f"{', '.join(ID_COLUMNS)} (it must be UTF-8, with commas)"
        )
    return columns


def _several(cell: str) -> list[str]:
    return [part for each in cell.split(";") if (part := each.strip())]


def _articles(said: Mapping[str, str]) -> Iterable[str]:
    names = (
        without_ending(part.rpartition("/")[2])
        for column in ID_COLUMNS
        for part in _several(said.get(column, ""))
    )
    return dict.fromkeys(name for name in names if name)


def _paper(said: Mapping[str, str]) -> Paper:
    def text(column: str) -> str:
        return clean(said.get(column, ""))

    return Paper(
        articles=tuple(_articles(said)),
        title=text("title"),
        date=dict(_date(text("publish_time"))),
        authors="; ".join(map(_first_name_first, _several(text("authors")))),
        journal=text("journal"),
        url=_address(said),
        abstract=text("abstract"),
    )


def _date(given: str) -> Iterator[tuple[str, str]]:
    """``2020-03-14``, ``2020-03``, ``2020``, or a year with something else behind it (``2020 Mar 14``)."""
    found = _DATE.match(given)
    if found is None:
        return
    for name, digits, most in zip(("year", "month", "day"), found.groups(), (9999, 12, 31), strict=True):
        if digits is None or not 1 <= int(digits) <= most:
            return
        yield name, str(int(digits))


def _first_name_first(author: str) -> str:
    """``Shi, Stephanie T``: as the files of parses have it, ``Stephanie T Shi``."""
    last, comma, first = author.partition(", ")
    return f"{first} {last}" if comma and "," not in first else author


def _address(said: Mapping[str, str]) -> str:
    """The paper's: by its DOI, which stays; else the first that is given; else PubMed Central's."""
    if doi := _DOI.search(said.get("doi", "")):
        return f"https://doi.org/{quote(doi[0], safe='/:;().-_')}"
    given = [part for part in _several(said.get("url", "")) if re.match(r"https?://\S+$", part)]
    return next(iter(given), "") or next(filter(None, map(pmc_address, _several(said.get("pmcid", "")))), "")
