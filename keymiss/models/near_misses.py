"""Near misses: the same question or sentence with another year, number, name, place or rare word in it.

They read like the real thing and do not answer: "When was the bridge of Lyon opened?" to a sentence about the
bridge of Basel. Only what question and sentence share is replaced, so that the two no longer speak of the
same.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from keymiss.corpus.stop_words import STOP_WORDS

YEAR = re.compile(r"\b(?:1[0-9]{3}|20[0-9]{2})\b")
NUMBER = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w-]|[.,]\d)")
NAME = re.compile(r"\b[A-Z][\w-]*(?:\s+(?:of\s+)?[A-Z][\w-]*)*")
WORD = re.compile(r"\b[a-z][a-z-]{4,}\b")
PLAIN = re.compile(r"[A-Z][a-z-]+")  # at a text's beginning it need not be a name
PLACE_BEFORE = re.compile(r"\b(?:in|at|from|near|to)\s+(?:the\s+)?$")
ENDING = (
    3  # rare words are replaced by one with the same last letters: often of the same sort (a drug, a bone)
)
RARE = 40  # texts of the collection a word may be in, to be told from the words that any text has
TRIES = 16
STEM = 4  # letters; what shares them may be the same word in another form


@dataclass(frozen=True)
class Mention:
    """text[start:end]; `kind`: year, number, name, place, or a rare word's ending."""

    kind: str
    start: int
    end: int
    text: str


def mentions(text: str, rare: Counter[str] | None = None) -> list[Mention]:
    """What can be replaced in a text, in order; none overlaps another. `rare`: in how many texts a word
    is."""
    found: list[Mention] = []
    taken: list[tuple[int, int]] = []

    def take(kind: str, start: int, end: int) -> None:
        if all(end <= a or start >= b for a, b in taken):
            taken.append((start, end))
            found.append(Mention(kind, start, end, text[start:end]))

    for match in YEAR.finditer(text):
        take("year", *match.span())
    for match in NUMBER.finditer(text):
        take("number", *match.span())
    for match in NAME.finditer(text):
        start, end = _without_stop_words(text, *match.span())
        if start < end and (start > 0 or not PLAIN.fullmatch(text[start:end])):
            take("place" if PLACE_BEFORE.search(text, 0, start) else "name", start, end)
    if rare is not None:
        for match in WORD.finditer(text):
            if 0 < rare[match[0]] <= RARE:
                take(f"-{match[0][-ENDING:]}", *match.span())
    return sorted(found, key=lambda one: one.start)


def _without_stop_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Without words such as "The" or "When" at the beginning."""
    while start < end:
        word = re.match(r"[\w-]+", text[start:end])
        if word is None or word[0].casefold() not in STOP_WORDS:
            break
        start += word.end()
        start += len(text[start:end]) - len(text[start:end].lstrip())
    return start, end


def words_of(text: str) -> set[str]:
    """Words that may be rare."""
    return set(WORD.findall(text))


@dataclass
class Pool:
    """What mentions are replaced by: texts by kind, of one article and of a whole file."""

    near: dict[str, list[str]] = field(default_factory=dict)
    far: dict[str, list[str]] = field(default_factory=dict)

    @staticmethod
    def of(found: Iterable[Mention]) -> dict[str, list[str]]:
        """By kind, each once, in order."""
        kinds: dict[str, dict[str, None]] = {}
        for one in found:
            kinds.setdefault(one.kind, {})[one.text] = None
        return {kind: list(texts) for kind, texts in kinds.items()}

    def drawn(self, mention: Mention, rng: random.Random) -> Iterator[str]:
        """Some others of its kind, at first of the same article, and of as many words if it is a name."""
        if mention.kind == "year":
            yield from (
                str(int(mention.text) + rng.choice((-1, 1)) * rng.randint(1, 25)) for _ in range(TRIES)
            )
        elif mention.kind == "number":
            yield from (_other_number(mention.text, rng) for _ in range(TRIES))
        else:
            words = len(mention.text.split())
            for attempt in range(TRIES):
                texts = (self.near if attempt < TRIES // 3 else self.far).get(mention.kind)
                one = rng.choice(texts) if texts else ""
                if one and (len(one.split()) == words or attempt >= TRIES * 3 // 4):
                    yield one


def _other_number(given: str, rng: random.Random) -> str:
    """As many digits, in the same shape; the first is not 0 unless it was."""
    digits = [
        it if not it.isdigit() or (it == "0" and rng.random() < 0.7) else rng.choice("123456789")
        for it in given
    ]
    return "".join(digits)


def swapped(
    question: str,
    sentence: str,
    answers: Sequence[tuple[int, int]],
    pool: Pool,
    rng: random.Random,
    rare: Counter[str] | None = None,
    also_not_in: str = "",
) -> tuple[str | None, str | None]:
    """The question, and the sentence, with what they share replaced by something else of its kind.

    `answers`: [start, end) in the sentence; they are left as they are. `also_not_in`: a text that must not
    speak of what is put in. None where nothing can be replaced.
    """  # fmt: skip
    shared = [one for one in mentions(question, rare) if _in(one.text, sentence)]
    if not shared:
        return None, None
    named = [one for one in shared if not one.kind.startswith("-")]
    mention = rng.choice(named or shared)
    everything = f"{question} {sentence} {also_not_in}"
    other = next((one for one in pool.drawn(mention, rng) if _is_another(one, mention, everything)), None)
    if other is None:
        return None, None
    asked = question[: mention.start] + other + question[mention.end :]
    places = [match.span() for match in _found(mention.text, sentence)]
    if any(start < b and end > a for start, end in places for a, b in answers):
        return asked, None
    said, at = [], 0
    for start, end in places:
        said += [sentence[at:start], other]
        at = end
    return asked, "".join([*said, sentence[at:]])


def _is_another(text: str, mention: Mention, everything: str) -> bool:
    """Not the same in another form ("bridge", "bridges"), nor something that is spoken of already."""
    alike = text.casefold()[:STEM] == mention.text.casefold()[:STEM] and mention.kind not in (
        "year",
        "number",
    )
    return not alike and text != mention.text and not _in(text, everything) and not _in(mention.text, text)


def _found(text: str, where: str) -> Iterable[re.Match[str]]:
    return re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", where, re.IGNORECASE)


def _in(text: str, where: str) -> bool:
    return text.casefold() in where.casefold() and next(iter(_found(text, where)), None) is not None
