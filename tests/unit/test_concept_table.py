"""Reading a concept table: what loads, what is reported, and that the same table has the same digest."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymiss.corpus.concept_table import BadTable, Concept, ConceptTable, parse_table, read_table

HEADER = "id,name,synonyms\n"


def test_a_users_file_with_a_byte_order_mark_other_columns_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(
        b"\xef\xbb\xbfName,ID,definition,Synonyms\r\n"
        b'"fever, high",C.0001-a,"hot, and\r\nover two lines","pyrexia| ""hot"" state |"\r\n'
        b"\r\n"
        b"na\xc3\xafve T cell,C2,,\r\n"
    )
    table, report = read_table(path)
    assert list(table.concepts.values()) == [
        Concept("C.0001-a", "fever, high", ("pyrexia", '"hot" state')),
        Concept("C2", "na\u00efve T cell", ()),
    ]
    assert (report.rows, report.concepts, report.synonyms, report.faults) == (2, 2, 2, [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",fever,", "no id"),
        ("  ,fever,", "no id"),
        ("a:b,fever,", "the id must be"),
        ("{a},fever,", "the id must be"),
        ("a b,fever,", "the id must be"),
        ("\u00e9,fever,", "the id must be"),
        (f"{'x' * 65},fever,", "the id must be"),
        ("C1,fever,", "the id is there already"),
        ("C2,,pyrexia", "no name"),
        ("C2,---,pyrexia", "the name is nothing but punctuation"),
        ("C2,f\x00ever,", "the name has a control character"),
        ("C2,fev\x1ber,", "the name has a control character"),
        (f"C2,{'x' * 201},", "the name is longer than 200 characters"),
        ("C2,x,", "the name is a single character or number"),
        ("C2,2019,", "the name is a single character or number"),
        ("C2,With,", "the name is a word of nearly every sentence"),
        ("C2,fever", "2 columns, the header has 3"),
        ("C2,fever,a,b", "4 columns, the header has 3"),
        ("C2,Cough,", "its name and synonyms are all of other concepts"),
        ('C2,"fever,', "a quotation mark that is not closed"),
        ('C2,"fever" x,', "no CSV"),
    ],
)
def test_a_broken_row_is_left_out_and_named(row: str, reason: str) -> None:
    table, report = parse_table(f"{HEADER}C1,cough,\n{row}\nC3,sneeze,\n")
    assert list(table.concepts) == ["C1", "C3"]
    assert (report.rows, report.concepts, report.rows_left_out) == (3, 2, 1)
    left_out = [fault for fault in report.faults if fault.row_left_out]
    assert [fault.line for fault in left_out] == [3]
    assert reason in str(left_out[0])
    assert "line 3" in str(left_out[0])


@pytest.mark.parametrize(
    ("synonym", "reason"),
    [
        ("s" * 201, "is longer than 200 characters"),
        ("cough", "is of C1 already"),
        ("COUGH.", "is of C1 already"),
        ("...", "is nothing but punctuation"),
        ("he\x07at", "has a control character"),
        ("i", "is a single character or number"),
        ("the", "is a word of nearly every sentence"),
    ],
)
def test_a_synonym_that_cannot_be_used_costs_only_itself(synonym: str, reason: str) -> None:
    table, report = parse_table(f"{HEADER}C1,cough,\nC2,fever,pyrexia|{synonym}|heat\n")
    assert table.concepts["C2"] == Concept("C2", "fever", ("pyrexia", "heat"))
    assert [(fault.line, fault.concept_id, fault.row_left_out) for fault in report.faults] == [
        (3, "C2", False)
    ]
    assert reason in report.faults[0].reason
    assert report.rows_left_out == 0


def test_a_name_in_capitals_may_be_an_ordinary_word() -> None:
    table, report = parse_table(f"{HEADER}C1,WHO,World Health Organization\nC2,IT,\n")
    assert [concept.name for concept in table.concepts.values()] == ["WHO", "IT"]
    assert report.faults == []


def test_the_spellings_of_one_name_are_one_synonym() -> None:
    table, report = parse_table(f"{HEADER}C1,face-to-face,face to face|Face/to/face|in person\n")
    assert table.concepts["C1"].synonyms == ("in person",)
    assert report.faults == []


def test_a_name_that_another_concept_has_gives_way_to_a_synonym() -> None:
    table, report = parse_table(f"{HEADER}C9,cold,\nC1,Cold,low temperature|chill\n")
    assert table.concepts["C1"] == Concept("C1", "low temperature", ("chill",))
    assert [str(fault) for fault in report.faults] == ["line 3, C1: 'Cold' is of C9 already (loaded in part)"]


@pytest.mark.parametrize("stray", ['C2,"fever,', 'C2,fever,"pyrexia', 'C2,"fever\nhigh",'])
def test_a_forgotten_quote_swallows_no_other_row(stray: str) -> None:
    rows = "".join(f"C1{n},cough {n},\n" for n in range(50))
    table, report = parse_table(
        f'{HEADER}{stray}\n{rows}C3,"sneeze,\n{rows.replace("C1", "C4").replace("gh", "")}'
    )
    assert len(table) == 100
    assert "not closed" in report.faults[0].reason
    assert report.faults[0].line == 2


def test_a_quote_inside_a_field_is_a_character() -> None:
    table, report = parse_table(f'{HEADER}C1,5" tube,\nC2,cough,\nC3,3" tube,\n')
    assert [concept.name for concept in table.concepts.values()] == ['5" tube', "cough", '3" tube']
    assert report.faults == []


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "has no header"),
        ("\n\n", "has no header"),
        ("C1,fever,pyrexia\n", "must have one column id"),
        ("id;name;synonyms\nC1;fever;\n", "separated by commas"),
        ("id,name\nC1,fever\n", "must have one column synonyms"),
        ("id,name,name,synonyms\nC1,fever,a,b\n", "must have one column name"),
        (HEADER, "no row that can be used (0 rows)"),
        (f"{HEADER},fever,\n,cough,\n", "no row that can be used (2 rows; first: line 2, no id: no id"),
        ('{"id": "C1"}', "must have one column id"),
    ],
)
def test_a_text_without_any_concept_is_an_error_that_says_what_to_do(text: str, advice: str) -> None:
    with pytest.raises(BadTable) as caught:
        parse_table(text, "mine.csv")
    assert advice in str(caught.value)
    assert "mine.csv" in str(caught.value)


def test_a_file_that_is_not_utf_8_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes((HEADER + "C1,\u0153d\u00e8me,\n").encode("cp1252"))
    with pytest.raises(BadTable, match=r"table\.csv is not in UTF-8 \(byte 20\): save it as CSV"):
        read_table(path)


def test_a_table_needs_a_concept() -> None:
    with pytest.raises(BadTable):
        ConceptTable([])


def test_the_canonical_text_is_sorted_by_id_and_does_not_depend_on_the_order_of_rows() -> None:
    rows = [f"C{n},name {n},b{n} syn|a{n} syn\n" for n in range(40)]
    mixed = rows.copy()
    random.Random(1).shuffle(mixed)
    first, second = (parse_table(HEADER + "".join(given))[0] for given in (rows, mixed))
    assert first.csv_text == second.csv_text == HEADER + "".join(sorted(rows))
    assert first.digest == second.digest
    assert len(first.digest) == 64


@pytest.mark.parametrize("row", ["C1,fever,heat\n", "C1,fevers,\n", "C2,fever,\n", "C1,fever,\nC2,cough,\n"])
def test_another_table_has_another_digest(row: str) -> None:
    assert parse_table(HEADER + row)[0].digest != parse_table(f"{HEADER}C1,fever,\n")[0].digest


names = st.text(st.sampled_from("ab\u00e9 ,\"'-;:()|"), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.sampled_from("ABCDEF"), names, st.lists(names, max_size=3)), max_size=8))
def test_a_canonical_text_is_read_back_without_a_fault(rows: list[tuple[str, str, list[str]]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    text = HEADER + "Z,zoonosis,\n"
    text += "".join(f"{row[0]},{quoted(row[1])},{quoted('|'.join(row[2]))}\n" for row in rows)
    table, report = parse_table(text)
    again, report_again = parse_table(table.csv_text)
    assert again.concepts == table.concepts
    assert ConceptTable.from_csv_text(table.csv_text).digest == table.digest
    assert report_again.faults == []
    assert report_again.synonyms == report.synonyms
    assert report.rows_left_out == sum(fault.row_left_out for fault in report.faults)
