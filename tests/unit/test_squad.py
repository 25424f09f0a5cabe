"""SQuAD files: the metrics by hand-worked cases, the split, what is read and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymiss.models import squad


def qa(question: str, *answers: tuple[str, int], id: str = "q") -> dict[str, Any]:
    return {
        "id": id,
        "question": question,
        "answers": [{"text": text, "answer_start": at} for text, at in answers],
    }


def put(folder: Path, *articles: list[tuple[str, list[dict[str, Any]]]], name: str = "given.json") -> Path:
    """A file of articles, each a list of (context, questions)."""
    data = [
        {"title": "", "paragraphs": [{"context": context, "qas": qas} for context, qas in article]}
        for article in articles
    ]
    path = folder / name
    path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return path


# (given, references, exact match, F1), worked out by hand after the rules of SQuAD's own evaluation
CASES = [
    ("Paris", ["Paris"], 1, 1.0),
    ("The Paris.", ["paris"], 1, 1.0),  # case, punctuation and articles do not count
    ("a an the cat", ["cat"], 1, 1.0),
    ("theatre", ["atre"], 0, 0.0),  # "the" is an article as a word only
    ("U.S.A.", ["USA"], 1, 1.0),  # punctuation goes without leaving a blank
    ("well-known", ["well known"], 0, 0.0),  # one word against two
    ("in  the\tcity", ["in city"], 1, 1.0),
    ("big red dog", ["red dog"], 0, 0.8),  # precision 2/3, recall 1
    ("red dog", ["big red dog"], 0, 0.8),
    ("dog dog", ["dog"], 0, 2 / 3),  # a word counts as often as it stands in both
    ("dog dog", ["dog cat dog"], 0, 0.8),
    ("cat", ["dog"], 0, 0.0),
    ("cat", ["dog", "the cat", "bird"], 1, 1.0),  # the best of several references
    ("black cat", ["dog", "a cat", "the big black cat"], 0, 0.8),
    ("1,000 men", ["1000 men"], 1, 1.0),
    ("Äpfel", ["äpfel"], 1, 1.0),
    ("“Paris”", ["Paris"], 0, 0.0),  # ASCII punctuation only
    ("", [], 1, 1.0),  # no answer, and none given
    ("the", [], 1, 1.0),
    ("Paris", [], 0, 0.0),
    ("", ["Paris"], 0, 0.0),
    ("the", ["a"], 1, 1.0),  # nothing is left of either
]


@pytest.mark.parametrize(("given", "references", "exact", "shared"), CASES)
def test_metrics(given: str, references: list[str], exact: int, shared: float) -> None:
    assert squad.exact_match(given, references) == exact
    assert squad.f1(given, references) == pytest.approx(shared)


@given(st.text(), st.lists(st.text(), max_size=3))
def test_metrics_are_shares_and_a_match_has_full_f1(given: str, references: list[str]) -> None:
    assert 0 <= squad.f1(given, references) <= 1
    if squad.exact_match(given, references):
        assert squad.f1(given, references) == 1


def test_answers_are_looked_for_where_the_file_says(tmp_path: Path) -> None:
    context = "lored red, a 50-50 vote"
    asked = [
        qa("exact", ("red", 6)),  # "red" stands two characters before it too
        qa("second", ("50", 16)),
        qa("blanks", (" red ", 5)),
        qa("one off", ("vote", 18)),
        qa("one of two", ("vote", 0), ("red", 6)),
        qa("not there", ("green", 3)),
        qa("far away", ("vote", 0)),
        qa("none"),
        qa("  "),
    ]
    [[paragraph]] = squad.read(put(tmp_path, [(context, asked)]))
    found = {q.question: [(answer.text, answer.start) for answer in q.answers] for q in paragraph.questions}
    assert found == {
        "exact": [("red", 6)],
        "second": [("50", 16)],
        "blanks": [("red", 6)],
        "one off": [("vote", 19)],
        "one of two": [("red", 6)],
        "none": [],
    }
    for question in paragraph.questions:
        for answer in question.answers:
            assert context[answer.start : answer.end] == answer.text


def test_articles_and_paragraphs_are_numbered(tmp_path: Path) -> None:
    path = put(tmp_path, [("One.", [qa("q")]), ("Two.", [])], [], [("Three.", [])])
    articles = squad.read(path)
    assert [[(p.article, p.number, p.context) for p in article] for article in articles] == [
        [("given-0", 0, "One."), ("given-0", 1, "Two.")],
        [("given-2", 0, "Three.")],  # the empty one between them is left out
    ]


BAD = [
    ("", "is not JSON"),
    ("{", "is not JSON"),
    (b"\xff\xfe{}", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ("[]", "not in SQuAD format"),
    ("{}", "not in SQuAD format: KeyError 'data'"),
    ('{"data": 3}', "not in SQuAD format"),
    ('{"data": "text"}', "not in SQuAD format"),
    ('{"data": [{}]}', "not in SQuAD format: KeyError 'paragraphs'"),
    ('{"data": [{"paragraphs": [{"qas": []}]}]}', "not in SQuAD format: KeyError 'context'"),
    ('{"data": [{"paragraphs": [{"context": " ", "qas": []}]}]}', "article 0, paragraph 0 has no context"),
    ('{"data": [{"paragraphs": [{"context": 3, "qas": []}]}]}', "article 0, paragraph 0 has no context"),
    ('{"data": [{"paragraphs": [{"context": "\\ud800", "qas": []}]}]}', "UnicodeEncodeError"),
    ('{"data": []}', "has no question"),
    ('{"data": [{"paragraphs": [{"context": "Text.", "qas": []}]}]}', "has no question"),
]
QUESTION = '{"data": [{"paragraphs": [{"context": "Text.", "qas": [%s]}]}]}'
BAD_QUESTIONS = [
    ('{"id": 1}', "KeyError 'question'"),
    ('{"question": "Q"}', "KeyError 'id'"),
    ('{"id": 1, "question": null}', "AttributeError"),
    ('{"id": 1, "question": "\\udfff"}', "UnicodeEncodeError"),
    ('{"id": 1, "question": "Q", "answers": [{"text": "Text"}]}', "KeyError 'answer_start'"),
    ('{"id": 1, "question": "Q", "answers": [{"text": "Text", "answer_start": "x"}]}', "ValueError"),
    ('{"id": 1, "question": "Q", "answers": [{"text": "Text", "answer_start": null}]}', "TypeError"),
    ('{"id": 1, "question": "Q", "answers": [{"text": "Text", "answer_start": Infinity}]}', "OverflowError"),
    ('{"id": 1, "question": "Q", "answers": [{"text": "gone", "answer_start": 0}]}', "has no question"),
]


@pytest.mark.parametrize(("content", "reason"), BAD + [(QUESTION % q, reason) for q, reason in BAD_QUESTIONS])
def test_bad_files_are_refused_with_a_reason(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(squad.BadFile, match=r"bad\.json") as error:
        squad.read(path)
    assert reason in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(squad.BadFile, match="No such file"):
        squad.read(tmp_path / "none.json")
    with pytest.raises(squad.BadFile, match="directory"):
        squad.read(tmp_path)


def articles(count: int, paragraphs: int) -> list[list[squad.Paragraph]]:
    return [
        [squad.Paragraph(f"a-{n}", p, f"Context {n} {p}.", ()) for p in range(paragraphs)]
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "held_out", "calibration"), [(10, 1, 0), (48, 5, 2), (98, 10, 4), (413, 41, 17)]
)
def test_a_tenth_of_the_articles_is_held_out(count: int, held_out: int, calibration: int) -> None:
    given = articles(count, 3)
    parts = squad.split(given)
    assert (len(parts.held_out), len(parts.calibration)) == (held_out, calibration)
    names = [{p.article for article in part for p in article} for part in parts.__dict__.values()]
    assert sum(map(len, names)) == len(set().union(*names)) == count  # no article in two parts, none lost
    assert all(len(article) == 3 for part in parts.__dict__.values() for article in part)


def test_the_split_does_not_depend_on_the_order() -> None:
    given = articles(48, 2)
    assert squad.split(given) == squad.split(given[::-1]) == squad.split(given)


def test_the_split_is_the_one_figures_are_made_with() -> None:
    """A change of the split would put what was trained on into the held-out part."""
    parts = squad.split(articles(20, 1))
    held = [article[0].article for article in parts.held_out]
    assert (held, [article[0].article for article in parts.calibration]) == (["a-1", "a-16"], ["a-19"])


def test_a_collection_of_few_articles_is_split_by_paragraph() -> None:
    parts = squad.split(articles(1, 50))
    assert [len(part) for part in (parts.train, parts.calibration, parts.held_out)] == [43, 2, 5]
    assert all(len(article) == 1 for part in parts.__dict__.values() for article in part)


def test_sentences_are_cut_as_they_stand() -> None:
    context = "  First one.  Second (3.5 of it), is it? Third  "
    assert [context[a:b] for a, b in squad.sentence_spans(context)] == [
        "First one.",
        "Second (3.5 of it), is it?",
        "Third",
    ]
