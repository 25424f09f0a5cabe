"""An article's text to sentences and state; what of the hash of sentences changes."""

from __future__ import annotations

import hashlib
import json

import pytest

from keymiss.pipeline.splitting import HashChange, sentence_changes, source_digest, split_text

FIRST = "Influenza often begins with fever and cough."
SECOND = "Flu can lead to pneumonia, and oseltamivir shortens influenza."
THIRD = "Nothing else is known of it."
GERMAN = "Die Grippe ist eine Krankheit der Atemwege, die sich im Winter rasch verbreitet und Fieber macht."


def test_sentences_know_their_paragraph() -> None:
    text = f"{FIRST} {SECOND}\n\n{THIRD}"
    found = split_text(text)
    assert found.sentences == [FIRST, SECOND, THIRD]
    assert json.loads(found.said.pop("paragraph_of")) == [0, 0, 1]
    digest = hashlib.sha1(text.encode()).hexdigest()
    assert found.said == {"language": "en", "sentences": "3", "text": digest}


def test_a_paragraph_in_another_language_is_left_out() -> None:
    """And one whose language cannot be told is not."""
    found = split_text("\n\n".join((f"{FIRST} {SECOND}", GERMAN, "1. Results", THIRD)))
    assert (found.sentences[:2], found.sentences[-1]) == ([FIRST, SECOND], THIRD)
    assert not any("Grippe" in sentence for sentence in found.sentences)
    assert (found.said["language"], found.said["left_out"]) == ("en", "de:1")
    numbers = json.loads(found.said["paragraph_of"])
    assert (numbers[:2], set(numbers[2:-1]), numbers[-1]) == ([0, 0], {2}, 3)
    assert "skipped" not in found.said


def test_an_article_in_another_language_is_skipped() -> None:
    found = split_text(f"{GERMAN} {GERMAN}\n\n{FIRST}")
    assert (found.sentences, found.said["sentences"], found.said["paragraph_of"]) == ([], "0", "[]")
    assert found.said["skipped"] == "the language is de, not en"


@pytest.mark.parametrize("text", ["", " \n\n ", "... --- ...", "-"])
def test_a_text_without_a_sentence(text: str) -> None:
    found = split_text(text)
    assert (found.sentences, found.said["skipped"]) == ([], "there is no sentence")


def test_a_text_that_is_not_utf8() -> None:
    raw = b"Influenza and fever \xff\xfe"
    found = split_text(raw)
    assert (found.sentences, found.said["skipped"]) == ([], "the text is not UTF-8")
    assert found.said["text"] == hashlib.sha1(raw).hexdigest()


def test_sentences_are_repaired_one_by_one() -> None:
    assert split_text(f"{FIRST} {THIRD}", str.upper).sentences == [FIRST.upper(), THIRD.upper()]


def test_the_digest_is_of_text_year_and_spelling() -> None:
    same = source_digest(FIRST, "2019", "no")
    assert same == source_digest(FIRST.encode(), "2019", "no")
    others = [
        source_digest(*of) for of in ((SECOND, "2019", "no"), (FIRST, "", "no"), (FIRST, "2019", "yes"))
    ]
    assert len({same, *others}) == 4


def test_only_what_differs_is_written() -> None:
    there = {"0": FIRST, "1": SECOND, "2": THIRD}
    assert sentence_changes([FIRST, THIRD], there, False) == HashChange({"1": THIRD}, ["2"])
    assert sentence_changes([FIRST, SECOND, THIRD], there, False) == HashChange({}, [])
    assert sentence_changes([], there, True) == HashChange({}, ["0", "1", "2"])


def test_another_year_alone_is_an_event_too() -> None:
    assert sentence_changes([FIRST, SECOND], {"0": FIRST, "1": SECOND}, True) == HashChange({"0": FIRST}, [])
    assert sentence_changes([FIRST, THIRD], {"0": FIRST, "1": SECOND}, True) == HashChange({"1": THIRD}, [])
