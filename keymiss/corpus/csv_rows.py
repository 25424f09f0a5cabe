"""The rows of a CSV file that is too large for memory and not quite clean, with where each one stands."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

MAX_FIELD_CHARS = 1_000_000
"""As many as a paragraph of an article may have; a longer field is a quotation mark that is not closed."""
MAX_LINE_BYTES = 16 << 20
"""What is behind them on a line is left out."""
UNCLOSED = "a quotation mark that is not closed"


class Row(NamedTuple):
    """`offset`: of its first byte; `line`: its first one, from 1."""

    offset: int
    line: int
    cells: list[str]


def rows_of(
    file: BinaryIO,
    width: int,
    offset: int = 0,
    line: int = 1,
    fault: Callable[[int, str], None] = lambda line, why: None,
) -> Iterator[Row]:
    """The rows from an offset on; empty lines are none. A row over several lines must have `width` cells:
    else a quotation mark is open, and reading goes on with the line after its first one, as it does after
    anything else that is no CSV. `fault` gets the line and what is wrong. Bytes that are not UTF-8 are
    replaced."""
    csv.field_size_limit(MAX_FIELD_CHARS)  # of the process; the default is too small for some abstracts
    lines = _Lines(file, offset, line)
    reader = csv.reader(lines, strict=True)
    while True:
        offset, line = lines.next_row()
        try:
            cells = _next(reader, lines, width)
        except StopIteration:
            return
        except csv.Error as error:
            fault(line, str(error))
            lines.go_back_to_second()
        else:
            if cells:
                yield Row(offset, line, cells)


def _next(reader: Iterator[list[str]], lines: _Lines, width: int) -> list[str]:
    """csv.Error when it is no row. An open quotation mark ends at another row's cell as a rule, with a letter
    behind it, which strict reading does not take; on a line of its own a stray one does no harm."""
    try:
        cells = next(reader)
    except csv.Error:
        cells = next(csv.reader([lines.text])) if lines.taken == 1 else []
        if not cells or cells[-1].endswith("\n"):
            raise csv.Error(UNCLOSED) from None
    if lines.taken > 1 and len(cells) != width:
        raise csv.Error(UNCLOSED)
    return cells


class _Lines:
    """Lines from an offset on, and how many of them the row has taken."""

    def __init__(self, file: BinaryIO, offset: int, line: int) -> None:
        file.seek(offset)
        self._file, self._offset, self._line = file, offset, line
        self.taken = 0
        self.text = ""
        """The last one."""
        self._second = (offset, line)

    def next_row(self) -> tuple[int, int]:
        """A row begins here."""
        self.taken = 0
        return self._offset, self._line

    def go_back_to_second(self) -> None:
        """To the line after the row's first one."""
        self._offset, self._line = self._second
        self._file.seek(self._offset)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(MAX_LINE_BYTES)
        if not raw:
            raise StopIteration
        encoding = "utf-8" if self._offset else "utf-8-sig"
        self._offset += len(raw)
        while not raw.endswith(b"\n") and (rest := self._file.readline(MAX_LINE_BYTES)):
            self._offset += len(rest)
            if rest.endswith(b"\n"):
                break
        self._line += 1
        self.taken += 1
        if self.taken == 1:
            self._second = (self._offset, self._line)
        self.text = raw.decode(encoding, "replace")
        return self.text
