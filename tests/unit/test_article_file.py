"""From a file and its row in metadata.csv to an article: its name, its fields, its abstract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keymiss.corpus.article_file import Article, BadArticle, name_in, parse_article, read_article
from keymiss.corpus.paper_table import Paper
from tests.cord19 import parse

BODY = "Masks slow the spread of the virus. They are worn indoors."
ABSTRACT = "We asked who wears masks, and where."


def made(content: dict[str, Any], file_name: str = "", paper: Paper | None = None) -> Article:
    return parse_article(json.dumps(content).encode(), file_name, *([paper] if paper else []))


@pytest.mark.parametrize(
    "paper_id", ["PMC1", "PMC1.xml", "PMC1.xml.json", "PMC1.nxml", "PMC1.tei.xml", " PMC1.PDF "]
)
@pytest.mark.parametrize("file_name", ["", "PMC1.xml.json", "other.json"])
def test_the_name_is_the_paper_id_without_the_ending_of_a_file(paper_id: str, file_name: str) -> None:
    assert made(parse(paper_id, BODY), file_name).name == "PMC1"


@pytest.mark.parametrize("paper_id", ["10.1186-1743", "v1.xmlish", "xml", "a.b"])
def test_what_is_no_ending_stays(paper_id: str) -> None:
    assert made(parse(paper_id, BODY)).name == paper_id


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(parse("PMC1.xml", BODY)),
        "\ufeff \n" + json.dumps(parse("PMC1.xml", BODY), indent=1),
        json.dumps({"metadata": {"paper_id": "another"}, **parse("PMC1.xml", "x" * 9000)}),
        json.dumps(dict(reversed(parse("PMC1.xml", "x" * 9000).items()))),
    ],
)
def test_the_name_is_told_before_the_file_is_parsed(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert name_in(path) == "PMC1" == read_article(path).name


@pytest.mark.parametrize("content", ["", "{", "[]", '{"paper_id": 5}', '{"paper_id": "\\x"}', "{}"])
def test_a_name_that_cannot_be_told(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert name_in(path) == ""
    assert name_in(tmp_path / "none.json") == ""


def test_the_abstract_comes_first() -> None:
    assert made(parse("A1", BODY, abstract=[ABSTRACT, "", "And when."])).paragraphs == [
        ABSTRACT,
        "And when.",
        BODY,
    ]
    assert made(parse("A1", BODY) | {"abstract": ABSTRACT}).paragraphs == [ABSTRACT, BODY]


def test_the_abstract_of_metadata_csv_is_taken_where_the_file_has_none() -> None:
    paper = Paper(abstract=ABSTRACT)
    assert made(parse("A1", BODY), paper=paper).paragraphs == [ABSTRACT, BODY]
    assert made(parse("A1", BODY, abstract=[" "]), paper=paper).paragraphs == [ABSTRACT, BODY]
    both = made(parse("A1", BODY, abstract=["We asked who wears masks."]), paper=paper)
    assert both.paragraphs == ["We asked who wears masks.", BODY]


@pytest.mark.parametrize("label", ["", "Abstract ", "ABSTRACT: "])
def test_an_abstract_that_the_text_has_too_is_there_once(label: str) -> None:
    in_text = ["We asked who wears masks ,", "and where.", BODY]
    assert made(parse("A1", *in_text, abstract=[label + ABSTRACT])).paragraphs == in_text
    assert made(parse("A1", *in_text), paper=Paper(abstract=label + ABSTRACT)).paragraphs == in_text


def test_an_abstract_alone_is_an_article() -> None:
    assert made(parse("A1", abstract=[ABSTRACT])).paragraphs == [ABSTRACT]
    assert made(parse("A1"), paper=Paper(abstract=ABSTRACT)).paragraphs == [ABSTRACT]
    with pytest.raises(BadArticle, match="body_text has no sentence, and there is no abstract"):
        made(parse("A1", abstract=["..."]))


PAPER = Paper(
    title="From the table",
    date={"year": "2003", "month": "7"},
    authors="Ada Table; Bo Table",
    journal="Journal of Tables",
    url="https://doi.org/10.1234/table",
)


def test_the_table_says_what_the_file_does_not() -> None:
    assert made(parse("A1", BODY), "A1.json", PAPER).fields == {
        "title": "From the table",
        "source": "A1.json",
        "year": "2003",
        "month": "7",
        "authors": "Ada Table; Bo Table",
        "journal": "Journal of Tables",
        "url": "https://doi.org/10.1234/table",
    }
    authors = [
        {"first": "Ada", "middle": ["B.", "C."], "last": "File", "suffix": "Jr", "email": None},
        {"first": "", "middle": [], "last": ""},
        {"first": None, "last": "Group"},
        "not an author",
    ]
    said = parse("A1", BODY, title="From the file", year=2020, journal="Files", url="https://example.org/1")
    said["metadata"]["authors"] = authors
    assert made(said, "A1.json", PAPER).fields == {
        "title": "From the file",
        "source": "A1.json",
        "year": "2020",
        "authors": "Ada B. C. File Jr; Group",
        "journal": "Files",
        "url": "https://example.org/1",
    }


def test_an_article_of_pmc_json_is_at_pubmed_central() -> None:
    url = "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC7/"
    assert made(parse("PMC7", BODY), "PMC7.xml.json").fields["url"] == url
    assert made(parse("PMC7", BODY), "PMC7.xml.json", PAPER).fields["url"] == PAPER.url
    for name, file_name in (("PMC7", ""), ("PMC7", "PMC7.json"), ("PMCx", "PMCx.xml.json")):
        assert "url" not in made(parse(name, BODY), file_name).fields
