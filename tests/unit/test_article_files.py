"""Which files are of one article, and which of them comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from keymiss.corpus.article_files import Parse, by_article
from keymiss.corpus.paper_table import PaperTable
from tests.cord19 import write_metadata

Opened = Callable[[PaperTable], PaperTable]
PDF, PMC = Path("document_parses/pdf_json"), Path("document_parses/pmc_json")
FILES = [
    Parse(PDF / "s1.json", "s1"),
    Parse(PDF / "s2.json", "s2"),
    Parse(PDF / "s3.json", "s3"),
    Parse(PMC / "PMC1.xml.json", "PMC1"),
    Parse(Path("bad.json"), ""),
    Parse(Path("bad too.json"), ""),
]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Closes tables when the test ends."""
    with ExitStack() as stack:
        yield lambda table: stack.enter_context(closing(table))


def test_without_a_table_files_of_one_id_are_one_article() -> None:
    copies = [Parse(Path("copy.json"), "PMC1"), *FILES, Parse(Path("again.json"), "s1")]
    found = [[str(parse.path) for parse in article.parses] for article in by_article(copies)]
    assert found == [
        ["document_parses/pmc_json/PMC1.xml.json", "copy.json"],
        ["document_parses/pdf_json/s1.json", "again.json"],
        ["document_parses/pdf_json/s2.json"],
        ["document_parses/pdf_json/s3.json"],
        ["bad.json"],
        ["bad too.json"],
    ]


def test_a_table_joins_the_parses_of_a_paper(tmp_path: Path, opened: Opened) -> None:
    path = write_metadata(tmp_path, {"cord_uid": "aaaaaaaa", "sha": "s2; s1", "pmcid": "PMC1", "title": "T"})
    table = opened(PaperTable(path, {parse.name for parse in FILES}))
    first, second, *_ = by_article(FILES, [table])
    assert [parse.name for parse in first.parses] == ["PMC1", "s2", "s1"]
    assert first.paper(first.parses[2]).title == "T"
    assert [parse.name for parse in second.parses] == ["s3"]
    assert second.paper(second.parses[0]).title == ""
    assert [parse.name for parse in by_article(FILES[:3], [table])[0].parses] == ["s2", "s1"]


def test_the_first_table_that_knows_an_article_counts(tmp_path: Path, opened: Opened) -> None:
    tables = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows = [{"cord_uid": "aaaaaaaa", "sha": "s1" if name == "one" else "s1; s2", "title": name}]
        tables.append(opened(PaperTable(write_metadata(tmp_path / name, *rows), {"s1", "s2"})))
    first, second = by_article(FILES[:2], tables)
    assert (first.paper(first.parses[0]).title, second.paper(second.parses[0]).title) == ("one", "two")
