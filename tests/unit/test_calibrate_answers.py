"""The weights of an answer's score: what is asked, what is fitted, what is measured."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from keymiss.models.asking import EvaluateError
from keymiss.models.calibrate import CalibrateError
from keymiss.models.calibrate_answers import Asked, Found, asked_of, fit, measured
from keymiss.models.find_paragraphs import Encoding
from keymiss.retrieval import Candidate

TEXTS = (
    "The Amble is a river. It was bridged by Ada Moore in 1894.",
    "Cold Top is a hill. Larks breed there.",
)
QUESTIONS = (("Who bridged the Amble?", "Ada Moore"), ("Which birds breed on Cold Top?", "Larks"))


def squad(folder: Path, articles: int) -> Path:
    data = [
        {"paragraphs": [{"context": text, "qas": [
            {"id": name, "question": name, "answers": [{"text": told, "answer_start": text.index(told)}]},
            {"id": "none", "question": "Who was it not?", "answers": [], "is_impossible": True},
        ]}]}
        for text, (name, told) in list(zip(TEXTS, QUESTIONS, strict=True))[:articles]
    ]  # fmt: skip
    path = folder / "rivers.json"
    path.write_text(json.dumps({"data": data}))
    return path


@pytest.fixture(scope="module")
def encoding() -> Encoding:
    return Encoding()


def found(covered: float, cosine: float, score: float, right: bool) -> Found:
    return Found(Candidate("A", "s", "0", "text", 1.0, cosine, coverage=covered), score, right)


def some(seed: int) -> list[Asked]:
    """Of questions that are answered and that are not: what is right is covered better, with much noise."""
    draw = random.Random(seed)

    def one(right: bool) -> Found:
        more = 0.3 if right else 0.0
        return found(draw.random() * 0.7 + more, draw.random() * 0.7 + more, draw.random(), right)

    return [
        Asked(answered, [one(answered and at == 0) for at in range(5)])
        for answered in (True, False)
        for _ in range(200)
    ]


def test_every_question_is_put_to_what_answers_it_and_to_what_does_not(
    tmp_path: Path, encoding: Encoding
) -> None:
    asked = asked_of(squad(tmp_path, 2), "all", 10, encoding, lambda _question, text: len(text) / 100, 1)
    assert [each.answered for each in asked] == [True, False] * 2
    for each in asked:
        assert each.right_read is each.answered
        assert all(one.reader_score == len(one.candidate.sentence) / 100 for one in each.found)
    assert {one.candidate.article for one in asked[1].found} == {"1"}
    assert {one.candidate.article for one in asked[3].found} == {"0"}


def test_one_article_cannot_be_asked_of_another(tmp_path: Path, encoding: Encoding) -> None:
    with pytest.raises(EvaluateError, match="one article cannot be put into two halves"):
        asked_of(squad(tmp_path, 1), "all", 10, encoding, lambda _question, _text: 0.0, 1)


def test_what_tells_gets_weight_and_the_score_is_fair() -> None:
    weights = fit(some(1), vectors=True)
    assert weights.coverage > 1
    assert weights.cosine > 1
    assert abs(weights.reader) < 0.3  # the reader's score is noise here
    assert fit(some(1), vectors=False).cosine == 0
    asked = some(2)
    figures = measured("made up", asked, lambda one: weights.probability(one.reader_score, one.candidate))
    assert (figures["questions"], figures["read"]) == (200, 100)
    assert float(str(figures["auc"])) > 0.65
    mean = sum(
        max(weights.probability(one.reader_score, one.candidate) for one in each.found) for each in asked
    )
    assert mean / len(asked) == pytest.approx(0.5, abs=0.05)


def test_one_kind_of_question_is_not_enough() -> None:
    with pytest.raises(CalibrateError, match="nothing to fit"):
        fit([each for each in some(3) if not each.answered], vectors=True)
