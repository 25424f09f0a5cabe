"""Repair of spelling: what is mended, and the much that is left alone."""

from __future__ import annotations

import sys

import pytest

from keymiss.corpus import spelling
from keymiss.corpus.concept_matcher import ConceptMatcher
from keymiss.corpus.concept_table import ConceptTable
from keymiss.corpus.spelling import Repair

TABLE = ConceptTable.from_csv_text(
    "id,name,synonyms\nC1,becouse syndrome,Peopel disease|goverment-itis\nC2,virchow vessell,\n"
)


@pytest.fixture(scope="module")
def repair() -> Repair:
    return Repair(None)


@pytest.fixture(scope="module")
def careful() -> Repair:
    return Repair(ConceptMatcher(TABLE))


@pytest.mark.parametrize(
    ("sentence", "repaired"),
    [
        ("The goverment said so.", "The government said so."),
        ("It happened becouse peopel left.", "It happened because people left."),
        ("goverment", "government"),
    ],
)
def test_a_misspelt_word_is_mended(repair: Repair, sentence: str, repaired: str) -> None:
    assert repair.sentence(sentence) == repaired


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "The government said so.",
        "Goverment and GOVERMENT are names here.",  # not in small letters
        "the ther teh",  # too short to tell
        "non-goverment goverment-led goverment/state goverment's",  # parts of compounds
        "xqzvbnm oseltamivir angiotensin remdesivir",  # no word is near
        "goverment2",  # beside a digit: a code
        "naïveté straße вирус",
        "  two  blanks,\tand a tab ",
    ],
)
def test_what_is_left_alone(repair: Repair, sentence: str) -> None:
    assert repair.sentence(sentence) == sentence


def test_a_concepts_words_are_never_touched(repair: Repair, careful: Repair) -> None:
    sentence = "It is becouse of peopel and the goverment."
    assert repair.sentence(sentence) == "It is because of people and the government."
    assert careful.sentence(sentence) == sentence


def test_words_of_a_matcher() -> None:
    matcher = ConceptMatcher(TABLE)
    assert all(
        map(matcher.has_word, ("becouse", "BECOUSE", "Syndrome", "syndromes", "peopel", "goverment", "itis"))
    )
    assert not any(map(matcher.has_word, ("becous", "people", "", " ", ",", "government")))


def test_without_its_package_sentences_stay_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "symspellpy", None)
    monkeypatch.setattr(spelling, "_dictionary", spelling._dictionary.__wrapped__)
    assert Repair(None).sentence("The goverment said so.") == "The goverment said so."
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'keymiss[spelling]'" in said
