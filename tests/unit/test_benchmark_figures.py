"""The benchmark's figures: medians, ratios, goals; how they are kept, shown and put into docs/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from keymiss.corpus.article_file import read_article
from keymiss.corpus.prose import split_sentences
from scripts.benchmarks.corpora import SAMPLE, article_files, sentences_of, write_articles
from scripts.benchmarks.docs_page import BEGIN, END, BadPage, with_table
from scripts.benchmarks.failure import BenchFailed
from scripts.benchmarks.figures import (
    Goal,
    Point,
    Results,
    Row,
    at_least,
    at_most,
    beside,
    median_ratio,
    percentile,
)
from scripts.benchmarks.machine import about_this_machine
from scripts.benchmarks.questions import new_questions
from scripts.benchmarks.table import markdown, number
from tests.servers import REPO

OPTIONS = {"quick": False, "rounds": 3, "model": "m", "form": "onnx", "masters": 4, "replicas": 1}


def results() -> Results:
    floor = beside("raw forward", [30.0, 10.0, 20.0], [10.0, 10.0, 10.0])
    goal = at_most(27.0, 20.0, "at most 27 ms")
    rows = [
        Row.of("fresh", "a question | of 20", "ms", [30.0, 10.0, 20.0], beside=floor, goal=goal),
        Row.of("memory", "all", "MB", [1234.0]),
    ]
    return Results(
        about_this_machine(), dict(OPTIONS), rows, {"masters": [Point(1, 90.0, 120.0, 60.0)]}, {"nginx": 1.5}
    )


@pytest.mark.parametrize(
    ("numbers", "percent", "wanted"),
    [
        ([3.0], 99, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        (range(1, 101), 99, 99),
        (range(1, 102), 99, 100),
        (range(1, 101), 100, 100),
    ],
)
def test_percentiles(numbers: Sequence[float], percent: float, wanted: float) -> None:
    assert percentile(numbers, percent) == wanted


def test_a_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_medians() -> None:
    assert median_ratio([1.0, 20.0, 30.0], [1.0, 10.0, 300.0]) == 1.0
    compared = beside("raw", [1.0, 20.0, 30.0], [1.0, 10.0, 300.0])
    assert (compared.value, compared.ratio) == (10.0, 1.0)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (at_most(2.0, 2.0, ""), True),
        (at_most(2.0, 2.1, ""), False),
        (at_least(0.9, 0.9, ""), True),
        (at_least(0.9, 0.89, ""), False),
    ],
)
def test_goals(goal: Goal, met: bool) -> None:
    assert goal.met is met


def test_a_row_has_the_median_or_another_figure_of_its_runs() -> None:
    row = Row.of("cached", "p50", "ms", [5.0, 1.0, 2.0])
    assert (row.value, row.least, row.most, row.runs) == (2.0, 1.0, 5.0, 3)
    assert Row.of("cached", "p99", "ms", [5.0, 1.0, 2.0], value=5.0).value == 5.0


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    made = results()
    made.save(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["goal"]["met"] is True
    assert Results.read(tmp_path / "results.json") == made


def test_the_table_has_figure_ratio_goal_and_machine() -> None:
    lines = markdown(results()).splitlines()
    assert "4 masters, 1 replicas each" in lines[0]
    assert (
        "| a question \\| of 20 | 20.0 ms | 10.0 to 30.0 | raw forward: 10.0 ms | 2.00 "
        "| at most 27 ms | yes |  |" in lines
    )
    assert "| all | 1,234 MB |  |  |  |  |  |  |" in lines
    assert "| 1 | 90.0 | 120 | 60.0 |  |  |" in lines


def test_a_goal_that_is_missed_says_no() -> None:
    made = results()
    made.rows[0] = replace(made.rows[0], goal=at_most(1.0, 20.0, "at most 1 ms"))
    assert "| at most 1 ms | no |" in markdown(made)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234"), (-12.34, "-12.3")]
)
def test_numbers_have_as_many_digits_as_are_of_use(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_page_gets_another_table_between_its_marks() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = with_table(page, "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_table(once, "new\n") == once
    for bad in ("no marks", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}"):
        with pytest.raises(BadPage, match="needs one line"):
            with_table(bad, "new")


def test_the_page_of_docs_has_its_marks() -> None:
    with_table((REPO / "docs" / "benchmarks.md").read_text(), "")


def test_questions_are_never_the_same() -> None:
    questions = new_questions()
    assert len({next(questions) for _ in range(1000)}) == 1000


def test_a_corpus_has_just_so_many_sentences_and_none_twice(tmp_path: Path) -> None:
    real = sentences_of(article_files(()))
    size = len(real) + 150
    files = write_articles(real, size, tmp_path)
    read = [text for path in files for text in split_sentences(read_article(path).paragraphs)]
    assert len(set(read)) == len(read) == size
    assert read[: len(real)] == real


def test_a_folder_without_articles_is_named(tmp_path: Path) -> None:
    assert article_files(()) == sorted(SAMPLE.glob("*.json"))
    with pytest.raises(BenchFailed, match=str(tmp_path)):
        article_files((tmp_path,))
