"""Years to look at: single ones and ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from keymiss.graph.events import MAX_YEAR, MIN_YEAR

MAX_RANGES = 32

_RANGE = re.compile(r"(\d{1,4})(?:\s*-\s*(\d{1,4}))?", re.ASCII)


class BadYears(ValueError):
    """Years that cannot be read; the text says which and how they are written."""


@dataclass(frozen=True, slots=True)
class Years:
    """Inclusive ranges, sorted. A year that is not known is in none of them."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, given: Iterable[str | int]) -> Years | None:
        """From years and ranges such as 2023 or ``2019-2021``. None when there is none: no filter.
        Raises BadYears."""
        ranges = sorted({_range(str(each).strip()) for each in given})
        if len(ranges) > MAX_RANGES:
            raise BadYears(f"at most {MAX_RANGES} years and ranges, not {len(ranges)}")
        return cls(tuple(ranges)) if ranges else None

    @classmethod
    def parse_text(cls, text: str) -> Years | None:
        """From ``2019-2021,2023``; blanks do not matter, and nothing between two commas is no year."""
        return cls.parse(part for part in text.split(",") if part.strip())

    def __contains__(self, year: object) -> bool:
        return isinstance(year, int) and any(low <= year <= high for low, high in self.ranges)


def _range(text: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    if not found:
        raise BadYears(f"{text!r} is neither a year (2023) nor a range of years (2019-2021)")
    low, high = int(found[1]), int(found[2] or found[1])
    if low < MIN_YEAR or low > high:
        raise BadYears(f"{text!r}: a range goes from a year to a later one, within {MIN_YEAR} to {MAX_YEAR}")
    return low, high
