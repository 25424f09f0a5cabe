"""Text as it is taken in: cleaned, cut into paragraphs and sentences, its language told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymiss.corpus import prose
from keymiss.corpus.prose import (
    CONTROL,
    clean,
    cut,
    join_paragraphs,
    language_of,
    languages_of,
    paragraphs_of,
    segments,
    sentences_of,
    split_sentences,
)

ENGLISH = "Influenza is an illness of the airways that spreads quickly in the winter months."
GERMAN = "Die Grippe ist eine Krankheit der Atemwege, die sich im Winter rasch verbreitet."
FRENCH = "La grippe est une maladie des voies respiratoires qui se propage rapidement en hiver."
SPANISH = "La gripe es una enfermedad de las vías respiratorias que se propaga con rapidez en invierno."


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A\0b\tc\u2028d\x9fe", "A b c d e"),
        ("  a \n\n b\r\n", "a b"),
        ("a\ud800b", "a?b"),
        ("\ufeffa\u00a0\u2003b", "a b"),
        ("\0\n", ""),
        ("", ""),
        ("naïve β 病", "naïve β 病"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(st.text(max_size=200))
def test_clean_text_can_be_stored_and_is_one_line(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert not CONTROL.search(cleaned)
    assert "  " not in cleaned
    assert clean(cleaned) == cleaned


@given(st.text(alphabet="ab ", min_size=1, max_size=300), st.integers(1, 40))
def test_cut_keeps_every_letter_within_the_limit(text: str, limit: int) -> None:
    pieces = cut(clean(text), limit)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert all(0 < len(piece) <= limit for piece in pieces)


def test_cut_between_words_where_there_are_any() -> None:
    assert cut("one two three", 8) == ["one two", "three"]
    assert cut("abcdefgh", 3) == ["abc", "def", "gh"]
    assert cut("abc def", 3) == ["abc", "def"]
    assert cut("one two; three four", 13) == ["one two;", "three four"]
    assert cut("one, two three four", 9) == ["one, two", "three", "four"]


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("Adults cough. Dr. Smith et al. agree.", ["Adults cough.", "Dr. Smith et al. agree."]),
        ("Masks\nhelp.", ["Masks help."]),
        ("It grew by 3.5 percent. Why? Nobody knows!", ["It grew by 3.5 percent.", "Why?", "Nobody knows!"]),
        ("... --- !", []),
        ("", []),
        ("No stop at its end", ["No stop at its end"]),
        (
            "Bats carry it (18) . Cats do not. So (19) . It ends.",
            ["Bats carry it (18) .", "Cats do not.", "So (19) .", "It ends."],
        ),
        (
            "It opens (Yue et al., 2018) . It shuts. And again (Ng, 2019; Roe, 2020) . It ends (Li, 2021) .",
            [
                "It opens (Yue et al., 2018) .",
                "It shuts.",
                "And again (Ng, 2019; Roe, 2020) .",
                "It ends (Li, 2021) .",
            ],
        ),
        ("First a) masks, then b) Hands. Then rest.", ["First a) masks, then b) Hands.", "Then rest."]),
        (
            "It was rare (p < 0.05). So it is (n = 3). It ends.",
            ["It was rare (p < 0.05).", "So it is (n = 3).", "It ends."],
        ),
        (
            "Then p < 0.01 held. We saw more (n > 7). It ends.",
            ["Then p < 0.01 held.", "We saw more (n > 7).", "It ends."],
        ),
        (
            "Wong et al. [29] saw it. Others did not [30] . It ends.",
            ["Wong et al. [29] saw it.", "Others did not [30] .", "It ends."],
        ),
        (
            "Kept at 37 • C for a day. Then at -80 • C. It ends.",
            ["Kept at 37 • C for a day.", "Then at -80 • C.", "It ends."],
        ),
        (
            "We need: • Masks. Soap too. • Water. It ends.",
            ["We need:", "• Masks.", "Soap too.", "• Water.", "It ends."],
        ),
        (
            "Bites of Ae. aegypti and Eimeria spp. are common. It ends.",
            ["Bites of Ae. aegypti and Eimeria spp. are common.", "It ends."],
        ),
    ],
)
def test_sentences(paragraph: str, sentences: list[str]) -> None:
    assert sentences_of(paragraph) == sentences


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["(18)", "•", "et al.", "C", "It", ". ", " ", "[3]", "\n"])).map("".join),
    )
)
def test_segments_are_the_whole_text(text: str) -> None:
    assert "".join(segments(text)) == text


@given(st.lists(st.text(max_size=80), max_size=4))
def test_sentences_are_clean_and_say_something(paragraphs: list[str]) -> None:
    for sentence in split_sentences(paragraphs):
        assert sentence == clean(sentence)
        assert any(letter.isalnum() for letter in sentence)


def test_a_paragraph_without_a_stop_is_cut() -> None:
    words = "word " * 5000
    pieces = sentences_of(words)
    assert all(len(piece) <= prose.MAX_SENTENCE_CHARS for piece in pieces)
    assert " ".join(pieces) == words.strip()


@given(st.lists(st.text(max_size=60), max_size=6))
def test_joined_paragraphs_come_apart_again(paragraphs: list[str]) -> None:
    assert paragraphs_of(join_paragraphs(paragraphs)) == [one for one in map(clean, paragraphs) if one]


@pytest.mark.parametrize(
    ("text", "paragraphs"),
    [
        ("a\nb\n\nc", ["a b", "c"]),
        ("a\r\n\r\nb", ["a", "b"]),
        ("a\n \t\n\n\nb\n", ["a", "b"]),
        ("\n\n", []),
        ("a", ["a"]),
    ],
)
def test_paragraphs(text: str, paragraphs: list[str]) -> None:
    assert paragraphs_of(text) == paragraphs


@pytest.mark.parametrize(
    ("text", "language"), [(ENGLISH, "en"), (GERMAN, "de"), (FRENCH, "fr"), (SPANISH, "es")]
)
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "1. Results", "12.5 37.2 14.8 99.1 " * 5, "SARS-CoV-2, HCoV-NL63"])
def test_a_language_that_cannot_be_told(text: str) -> None:
    assert language_of(text) is None


def test_only_the_beginning_of_a_paragraph_is_looked_at() -> None:
    assert language_of(ENGLISH * 10 + GERMAN * 50) == "en"


def test_languages_of_an_article() -> None:
    found = languages_of([ENGLISH, GERMAN, "1. Results", ENGLISH, GERMAN, FRENCH])
    assert found.main in ("en", "de")
    assert found.kept == (0, 2, 3)
    assert found.others == {"de": 2, "fr": 1}


def test_the_main_language_is_that_of_most_of_the_text() -> None:
    assert languages_of([ENGLISH, GERMAN * 3]).main == "de"
    assert languages_of([ENGLISH * 3, GERMAN, FRENCH]).main == "en"
    assert languages_of(["1. Results"]) == prose.Languages("en", (0,), {})
    assert languages_of([]) == prose.Languages("en", (), {})
