"""What is measured of retrieval: which paragraphs and sentences answer a question, and their rank."""

from __future__ import annotations

import json
from pathlib import Path

from keymiss.models.find_paragraphs import Corpus, rank_of
from keymiss.models.squad import read, split
from keymiss.retrieval import Candidate

TEXT = "Masks  help.\nBats carry viruses (many). They sleep by day."


def file_of(path: Path, contexts: list[list[str]], question: str, answer: str) -> Path:
    """Articles of these contexts; the question is asked of each context that has the answer."""

    def paragraph(context: str) -> dict[str, object]:
        answers = [{"text": answer, "answer_start": context.find(answer)}] if answer in context else []
        return {
            "context": context,
            "qas": [{"id": "1", "question": question, "answers": answers}] if answers else [],
        }

    data = [{"title": "", "paragraphs": list(map(paragraph, article))} for article in contexts]
    path.write_text(json.dumps({"data": data}))
    return path


def test_a_question_is_answered_by_each_paragraph_it_stands_at(tmp_path: Path) -> None:
    path = file_of(
        tmp_path / "two.json", [[TEXT, "No."], ["Some viruses stay."]], "What do they carry?", "viruses"
    )
    corpus = Corpus.of(path, "A")
    assert corpus.articles == {"A0": [" ".join(TEXT.split()), "No."], "A1": ["Some viruses stay."]}
    assert corpus.questions == [("What do they carry?", frozenset({("A0", 0), ("A1", 0)}))] * 2
    assert not corpus.by_sentence


def test_of_whole_articles_it_is_the_sentences_that_answer(tmp_path: Path) -> None:
    long = "This one says nothing. " * 300
    path = file_of(tmp_path / "long.json", [[long + TEXT]], "What?", "help.\nBats carry")
    corpus = Corpus.of(path)
    assert corpus.by_sentence
    assert corpus.questions == [("What?", frozenset({("0", 300), ("0", 301)}))]
    assert Corpus.of(file_of(path, [[long + TEXT]], "What?", "by day.")).questions[0][1] == {("0", 302)}


def test_questions_of_a_part_are_asked_of_all_articles(tmp_path: Path) -> None:
    contexts = [[f"Article {number} is about viruses."] for number in range(20)]
    path = file_of(tmp_path / "many.json", contexts, "What?", "viruses")
    held_out = {article[0].context for article in split(read(path)).held_out}
    corpus = Corpus.of(path, part="held-out")
    assert len(corpus.articles) == 20
    assert len(corpus.questions) == len(held_out) == 2


def test_the_rank_of_a_paragraph_is_that_of_its_first_sentence() -> None:
    found = [Candidate(article, "t", idx, "", 1.0) for article, idx in (("A", "0"), ("A", "1"), ("B", "7"))]
    places = {("A", "0"): 0, ("A", "1"): 0, ("B", "7"): 3}
    assert rank_of(found, places, frozenset({("B", 3)})) == 2
    assert rank_of(found, places, frozenset({("B", 3), ("A", 0)})) == 1
    assert rank_of(found, places, frozenset()) == 0
