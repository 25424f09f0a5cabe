"""metadata.csv: what a row says, odd rows and files, and that little of a large file is kept."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from keymiss.corpus import csv_rows
from keymiss.corpus.paper_table import NO_PAPER, BadPapers, Paper, PaperTable, find_tables
from tests.cord19 import write_metadata

Read = Callable[..., PaperTable]
SHA, OTHER = "a" * 40, "b" * 40
ROW = {
    "cord_uid": "ug7v899j",
    "sha": f"{SHA}; {OTHER}",
    "title": "On masks, and where",
    "doi": "10.1186/1471-2334-1-6",
    "pmcid": "PMC35282",
    "abstract": 'We asked "who".\nAnd where.',
    "publish_time": "2001-07-04",
    "authors": "Example, Ada B; Bo, C; A Group",
    "journal": "BMC Infect Dis",
    "pdf_json_files": f"document_parses/pdf_json/{SHA}.json; document_parses/pdf_json/{OTHER}.json",
    "pmc_json_files": "document_parses/pmc_json/PMC35282.xml.json",
    "url": "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC35282/",
}


@pytest.fixture
def read() -> Iterator[Read]:
    """Opens tables, and closes them when the test ends."""
    with ExitStack() as stack:
        yield lambda path, *wanted: stack.enter_context(closing(PaperTable(path, set(wanted))))


def test_what_a_row_says(read: Read, tmp_path: Path) -> None:
    table = read(write_metadata(tmp_path, {"cord_uid": "x"}, ROW), OTHER, "none")
    assert table.paper(OTHER) == Paper(
        articles=("PMC35282", SHA, OTHER),
        title="On masks, and where",
        date={"year": "2001", "month": "7", "day": "4"},
        authors="Ada B Example; C Bo; A Group",
        journal="BMC Infect Dis",
        url="https://doi.org/10.1186/1471-2334-1-6",
        abstract='We asked "who". And where.',
    )
    assert (table.rows, len(table), table.left_out) == (2, 1, 0)
    assert table.paper("none") is NO_PAPER
    assert table.place("none") is table.place(SHA) is None, "not asked for"


@pytest.mark.parametrize(
    ("given", "date"),
    [
        ("2020", {"year": "2020"}),
        (" 2020-03 ", {"year": "2020", "month": "3"}),
        ("2020 Mar 14", {"year": "2020"}),
        ("2020-13-01", {"year": "2020"}),
        ("2020-02-77", {"year": "2020", "month": "2"}),
        ("20200314", {}),
        ("0000", {}),
        ("", {}),
        ("n.d.", {}),
    ],
)
def test_dates(given: str, date: dict[str, str], tmp_path: Path, read: Read) -> None:
    table = read(write_metadata(tmp_path, ROW | {"publish_time": given}), SHA)
    assert table.paper(SHA).date == date


@pytest.mark.parametrize(
    ("doi", "urls", "pmcid", "address"),
    [
        ("doi:10.1016/S0140-6736(20)30183-5", "", "", "https://doi.org/10.1016/S0140-6736(20)30183-5"),
        ("10.1016/a<b>", "", "", "https://doi.org/10.1016/a%3Cb%3E"),
        ("", "http://example.org/a; https://example.org/b", "PMC1", "http://example.org/a"),
        ("none", "javascript:alert(1)", "PMC1", "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC1/"),
        ("", "", "", ""),
    ],
)
def test_addresses(doi: str, urls: str, pmcid: str, address: str, tmp_path: Path, read: Read) -> None:
    table = read(write_metadata(tmp_path, ROW | {"doi": doi, "url": urls, "pmcid": pmcid}), SHA)
    assert table.paper(SHA).url == address


def test_columns_that_are_missing_and_in_another_order(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes(
        f"\ufeffTitle,SHA\r\nFirst,{SHA}\r\n\r\nonly a title\r\nSecond,{OTHER},more,cells\r\n".encode()
    )
    table = read(path, SHA, OTHER)
    assert (table.paper(SHA).title, table.paper(OTHER).title) == ("First", "Second")
    assert (table.rows, table.left_out) == (3, 0)
    assert table.place(SHA) != table.place(OTHER)


def test_a_quotation_mark_that_is_not_closed_costs_its_row_only(read: Read, tmp_path: Path) -> None:
    path = write_metadata(tmp_path, ROW | {"sha": SHA}, ROW | {"sha": OTHER, "pdf_json_files": ""})
    header, *rows = path.read_text().split("\n", 1)
    path.write_text(f'{header}\nug7v899k,{"c" * 40},"PMC,an open one,,\n{rows[0]}x,"never closed\n')
    table = read(path, SHA, OTHER, "c" * 40)
    assert table.paper(SHA).title == table.paper(OTHER).title == ROW["title"]
    assert (table.rows, table.left_out) == (2, 2)
    assert table.faults[0] == "line 2: a quotation mark that is not closed"


def test_a_stray_quotation_mark_in_a_line_does_no_harm(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(f'sha,title\n{SHA},"On masks" and "where",\n{OTHER},On 5" tubes\n')
    table = read(path, SHA, OTHER)
    assert [table.paper(sha).title for sha in (SHA, OTHER)] == ['On masks and "where"', 'On 5" tubes']
    assert (table.rows, table.left_out) == (2, 0)


def test_fields_and_lines_without_end(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_FIELD_CHARS", 300_000)
    monkeypatch.setattr(csv_rows, "MAX_LINE_BYTES", 500_000)
    long = {"cord_uid": "ug7v899k", "sha": "c" * 40}
    path = write_metadata(
        tmp_path,
        long | {"abstract": "long " * 80_000},
        long | {"sha": "d" * 40, "abstract": "long " * 200_000},
        ROW | {"abstract": "long " * 40_000},
    )
    table = read(path, SHA, "c" * 40, "d" * 40)
    assert table.paper("c" * 40) is table.paper("d" * 40) is NO_PAPER
    assert len(table.paper(SHA).abstract) == 199_999
    assert table.faults == [f"line {line}: field larger than field limit (300000)" for line in (2, 3)]


def test_bytes_that_are_not_utf8_are_replaced(read: Read, tmp_path: Path) -> None:
    path = write_metadata(tmp_path, ROW)
    path.write_bytes(path.read_bytes().replace(b"BMC", b"BM\xff\0"))
    assert read(path, SHA).paper(SHA).journal == "BM\ufffd Infect Dis"


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"a,b,c\n1,2,3\n", "cord_uid,sha\n".encode("utf-16"), b"{}", bytes(5000), b'"sha\n' * 9],
)
def test_files_that_are_not_metadata_csv(content: bytes, tmp_path: Path, read: Read) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes(content)
    with pytest.raises(BadPapers, match=r"metadata.csv is not CORD-19's metadata.csv: its first line names"):
        read(path, SHA)
    with pytest.raises(OSError, match="No such file"):
        read(tmp_path / "none.csv", SHA)


def test_rows_of_one_paper_are_one_paper(read: Read, tmp_path: Path) -> None:
    """By cord_uid, and by a parse that two rows name."""
    one = {"cord_uid": "aaaaaaaa", "sha": "s1", "pmcid": ""}
    table = read(
        write_metadata(
            tmp_path,
            one,
            one | {"sha": "s2"},
            {"cord_uid": "bbbbbbbb", "sha": "s2", "pmcid": "PMC3"},
            {"cord_uid": "", "sha": "s4"},
            {"cord_uid": "", "sha": "s5"},
            {"cord_uid": "nan", "sha": "s6"},
            {"cord_uid": "nan", "sha": "s7"},
        ),
        *("s1", "s2", "PMC3", "s4", "s5", "s6", "s7"),
    )
    papers = [place.paper for name in ("s1", "s2", "PMC3") if (place := table.place(name))]
    assert papers == ["aaaaaaaa"] * 3
    others = {place.paper for name in ("s4", "s5", "s6", "s7") if (place := table.place(name))}
    assert len(others) == 4


def test_little_of_a_large_file_is_kept(tmp_path: Path) -> None:
    path = write_metadata(tmp_path, ROW)
    row = path.read_text().partition("\n")[2].replace("ug7v899j", "ug7v899z").replace(SHA, "e" * 40)
    with path.open("a") as file:
        for _ in range(8):
            file.write(row.replace("PMC35282", "PMC1").replace(OTHER, "f" * 40) * 1000)
    told: list[int] = []
    tracemalloc.start()
    try:
        table = PaperTable(path, {SHA}, told.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    table.close()
    assert (table.rows, len(table)) == (8_001, 1)
    assert path.stat().st_size > 3_500_000 > 8 * peak
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size


def test_the_table_is_found_beside_and_above(tmp_path: Path) -> None:
    deep = tmp_path / "set" / "document_parses" / "pmc_json"
    deep.mkdir(parents=True)
    assert find_tables([deep]) == []
    path = write_metadata(tmp_path / "set", ROW)
    for folder in (deep, deep.parent, deep.parent.parent):
        assert find_tables([folder, deep]) == [path]
    (deep / "below").mkdir()
    assert find_tables([deep / "below"]) == [], "three above"
    nearest = write_metadata(deep, ROW)
    assert find_tables([deep, deep.parent]) == [nearest, path]
