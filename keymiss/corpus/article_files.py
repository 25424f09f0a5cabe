"""Which files are parses of one article, and which of them is loaded.

Two files are of one article when their paper_id is the same, or when metadata.csv has them in rows of one
paper.
A parse of pmc_json is better than one of pdf_json; of several PDFs that which the row names first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from keymiss.corpus.article_file import is_pmc_parse
from keymiss.corpus.paper_table import NO_PAPER, Paper, PaperTable


class Parse(NamedTuple):
    """A file and the name of the article in it, which is not checked yet; empty when it cannot be told."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class ArticleFiles:
    """The parses of one article, the best first; `table`: the metadata.csv that knows it."""

    parses: tuple[Parse, ...]
    table: PaperTable | None = None

    def paper(self, parse: Parse) -> Paper:
        """What is known of it beside what the file says."""
        return self.table.paper(parse.name) if self.table is not None else NO_PAPER


def by_article(parses: Iterable[Parse], tables: Sequence[PaperTable] = ()) -> list[ArticleFiles]:
    """The articles in the order of their first files."""
    groups: dict[object, list[tuple[tuple[bool, int], Parse]]] = {}
    table_of: dict[object, PaperTable] = {}
    for parse in parses:
        found = next(((table, place) for table in tables if (place := table.place(parse.name))), None)
        table, place = found or (None, None)
        article = (table, place.paper) if place else parse.name or parse.path
        if table is not None:
            table_of[article] = table
        rank = place.rank if place else 0
        groups.setdefault(article, []).append(((not is_pmc_parse(parse.path), rank), parse))
    return [
        ArticleFiles(
            tuple(parse for _, parse in sorted(group, key=lambda each: each[0])), table_of.get(article)
        )
        for article, group in groups.items()
    ]
