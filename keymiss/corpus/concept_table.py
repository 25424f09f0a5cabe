"""The concept table: which concepts sentences are searched for, read from a CSV with what is wrong in it.

A table is a CSV in UTF-8 (with or without a byte order mark) whose first row names the columns; `id`,
`name` and `synonyms` are needed, in any order, others are ignored. Synonyms are separated by "|".
A row that cannot be used is left out and reported, with its line; the others load. The same table has
the same canonical text, and so the same digest, whatever the file's order of rows.

A name or synonym belongs to one concept: the first that has it. Read in one thread: 50,000 rows with
190,000 names in 1.3 s (52 MB of memory), 500,000 rows with 880,000 names in 11 s (300 MB).
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from keymiss.corpus.concept_folding import Pattern, pattern
from keymiss.corpus.stop_words import STOP_WORDS

COLUMNS = ("id", "name", "synonyms")
SYNONYMS_SEPARATOR = "|"
CONCEPT_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
"""Ids are parts of keys: no colon, brace or blank."""
LONGEST_SYNONYM = 200
"""Characters; what is longer is a definition, not a name."""
LONGEST_RECORD_LINES = 1000
"""A quoted field (of a column that is ignored) may go over lines; a quote open for longer is a mistake."""
OPEN_QUOTE = "a quotation mark that is not closed, or a line break in a field"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BadTable(ValueError):
    """A file from which no concept can be read; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Concept:
    """Something to look for. `synonyms` are in the table's order, without the name."""

    id: str
    name: str
    synonyms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in a row. `row_left_out`: the concept is not in the table; else only a part of it."""

    line: int
    concept_id: str
    reason: str
    row_left_out: bool

    def __str__(self) -> str:
        what = "left out" if self.row_left_out else "loaded in part"
        return f"line {self.line}, {self.concept_id or 'no id'}: {self.reason} ({what})"


@dataclass(slots=True)
class TableReport:
    """What reading a table came to: rows after the header, what was loaded of them, what was not."""

    rows: int = 0
    concepts: int = 0
    synonyms: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def rows_left_out(self) -> int:
        """How many rows are not in the table."""
        return self.rows - self.concepts


class ConceptTable:
    """Concepts by id, in the order of their ids. Not changed after it is made."""

    def __init__(self, concepts: Iterable[Concept]) -> None:
        """BadTable when there is no concept. Names and synonyms must belong to one concept each."""
        by_id = {concept.id: concept for concept in concepts}
        if not by_id:
            raise BadTable("a concept table needs at least one concept")
        self.concepts: Mapping[str, Concept] = MappingProxyType(dict(sorted(by_id.items())))

    def __len__(self) -> int:
        return len(self.concepts)

    @cached_property
    def csv_text(self) -> str:
        """The canonical CSV: rows in the order of the ids, "\\n" after each, quotes only where needed."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for concept in self.concepts.values():
            writer.writerow((concept.id, concept.name, SYNONYMS_SEPARATOR.join(concept.synonyms)))
        return out.getvalue()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical CSV in UTF-8, in hexadecimal."""
        return hashlib.sha256(self.csv_text.encode()).hexdigest()

    @classmethod
    def from_csv_text(cls, text: str) -> ConceptTable:
        """The table in a CSV's text, for instance in `csv_text` of another. BadTable as in `parse_table`."""
        return parse_table(text)[0]


def read_table(path: Path) -> tuple[ConceptTable, TableReport]:
    """The table in a file and what is wrong in it. BadTable if nothing can be read; OSError as usual."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadTable(
            f"{path} is not in UTF-8 (byte {error.start}): save it as CSV with the encoding UTF-8"
        ) from None
    return parse_table(text, str(path))


def parse_table(text: str, name: str = "the concept table") -> tuple[ConceptTable, TableReport]:
    """The table in a CSV's text and what is wrong in it. BadTable, naming it `name`, if it has no
    header with the columns that are needed or no row that can be used."""
    records = _Records(text.removeprefix("\ufeff"))
    header = next(iter(records), None)
    if header is None or not header.cells:
        raise BadTable(f"{name} has no header: its first line must be {','.join(COLUMNS)}")
    columns = [cell.strip().lower() for cell in header.cells]
    for column in COLUMNS:
        if columns.count(column) != 1:
            found = ", ".join(columns)[:100]
            raise BadTable(
                f"{name} must have one column {column}, but its header has: {found!r}. "
                f"The first line must name the columns id, name and synonyms, separated by commas"
            )
    reading = _Reading(tuple(columns.index(column) for column in COLUMNS), len(columns))
    for record in records:
        if not reading.take(record):
            records.only_first_line_of(record)
    if not reading.concepts:
        first = f"; first: {reading.report.faults[0]}" if reading.report.faults else ""
        raise BadTable(f"{name} has no row that can be used ({reading.report.rows} rows{first})")
    return ConceptTable(reading.concepts.values()), reading.report


@dataclass(frozen=True, slots=True)
class _Record:
    """A row of a CSV. `cells` is empty when the lines are no CSV, for the reason in `fault`."""

    line: int
    lines: int
    cells: list[str]
    fault: str = ""


class _Records:
    """The rows of a CSV, blank lines left out.

    The csv module alone would let one forgotten quote swallow every row up to the next quote. So lines
    are joined only as far as their quotes ask for, and what comes of it can be taken apart again.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._at = 0

    def __iter__(self) -> Iterator[_Record]:
        while self._at < len(self._lines):
            first = self._at
            self._at = self._end_of_record(first)
            row = "\n".join(self._lines[first : self._at])
            if not row.strip():
                continue
            reader = csv.reader(io.StringIO(row, newline=""), strict=True)
            cells, fault = [], ""
            try:
                cells = next(reader)
                self._at = first + reader.line_num  # a quote inside an unquoted field opens nothing
            except csv.Error as error:
                fault = OPEN_QUOTE if row.count('"') % 2 else f"no CSV: {error}"
            yield _Record(first + 1, self._at - first, cells, fault)

    def only_first_line_of(self, record: _Record) -> None:
        """Goes back to the line after the record's first: the others are rows of their own."""
        self._at = record.line

    def _end_of_record(self, first: int) -> int:
        """The line after those, from `first` on, whose quotes are even in number together."""
        quotes = 0
        for at in range(first, min(first + LONGEST_RECORD_LINES, len(self._lines))):
            quotes += self._lines[at].count('"')
            if quotes % 2 == 0:
                return at + 1
        return first + 1


class _Reading:
    """Rows on their way to a table: what was taken, and whose each name is."""

    def __init__(self, columns: tuple[int, ...], width: int) -> None:
        self.concepts: dict[str, Concept] = {}
        self.report = TableReport()
        self._columns, self._width = columns, width
        self._owners: dict[str, str] = {}  # what is looked for -> concept id

    def take(self, record: _Record) -> bool:
        """Adds the row's concept, or reports why not. False when the row's lines do not belong together."""
        self.report.rows += 1
        fits = len(record.cells) == self._width
        used = [record.cells[column].strip() for column in self._columns] if fits else []
        if record.lines > 1 and not (fits and "\n" not in "".join(used)):
            self._leave_out(record, "", OPEN_QUOTE)
            return False
        if not fits:
            fault = record.fault or f"{len(record.cells)} columns, the header has {self._width}"
            self._leave_out(record, "", fault)
        elif fault := self._row_fault(used[0], used[1]):
            self._leave_out(record, used[0], fault)
        else:
            self._take_names(record, used[0], (used[1], *used[2].split(SYNONYMS_SEPARATOR)))
        return True

    def _take_names(self, record: _Record, concept_id: str, names: Iterable[str]) -> None:
        own = list(self._own_names(names, record.line, concept_id))
        if not own:
            self._leave_out(record, concept_id, "its name and synonyms are all of other concepts")
            return
        # If the name is another concept's, a synonym takes its place: no two concepts are shown alike.
        self.concepts[concept_id] = Concept(concept_id, own[0], tuple(own[1:]))
        self.report.concepts += 1
        self.report.synonyms += len(own) - 1

    def _leave_out(self, record: _Record, concept_id: str, fault: str) -> None:
        self.report.faults.append(Fault(record.line, concept_id[:64], fault, row_left_out=True))

    def _row_fault(self, concept_id: str, name: str) -> str:
        if not concept_id:
            return "no id"
        if not CONCEPT_ID.fullmatch(concept_id):
            return "the id must be 1 to 64 letters A-Z, digits, dots and hyphens"
        if concept_id in self.concepts:
            return "the id is there already"
        if not name:
            return "no name"
        fault = _name_fault(name, pattern(name))
        return f"the name {fault}" if fault else ""

    def _own_names(self, names: Iterable[str], line: int, concept_id: str) -> Iterator[str]:
        """The names that the concept may have, each once; from now on no other may have them."""
        seen: set[str] = set()
        for name in filter(None, map(str.strip, names)):
            wanted = pattern(name)
            fault = _name_fault(name, wanted)
            if not fault and (owner := self._owners.setdefault(wanted.text, concept_id)) != concept_id:
                fault = f"is of {owner} already"
            if fault:
                self.report.faults.append(
                    Fault(line, concept_id, f"{name[:60]!r} {fault}", row_left_out=False)
                )
            elif wanted.text not in seen:
                seen.add(wanted.text)
                yield name


def _name_fault(name: str, wanted: Pattern) -> str:
    """Why sentences cannot be searched for a name or synonym; "" when they can."""
    if len(name) > LONGEST_SYNONYM:
        return f"is longer than {LONGEST_SYNONYM} characters"
    if _CONTROL.search(name):
        return "has a control character"
    word = wanted.text.strip()
    if not word:
        return "is nothing but punctuation"
    if len(word) == 1 or word.isdigit():
        return "is a single character or number"
    if word in STOP_WORDS and not wanted.capitals_only:
        return "is a word of nearly every sentence"
    return ""
