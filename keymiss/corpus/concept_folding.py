"""How the text of sentences and of concept names is compared: folded to words, with their plural forms.

`folded` gives a text as words, each in blanks of its own (``" SARS  CoV  2 "``), so that a match of a
whole pattern never begins or ends inside a word and two matches side by side share no character.
Case is kept; the caller folds it with ``str.casefold``, which leaves every offset where it is. Equal
after folding are: accented and plain letters, Greek letters and their names (alpha), and whatever
separates two words (blank, hyphen, slash, full stop, apostrophe). A comma, semicolon, colon, bracket,
question or exclamation mark is a word of its own: "fever, cough" does not hold "fever cough".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from keymiss.corpus.stop_words import STOP_WORDS

BREAK = ","
"""The word that stands for every mark in `_BREAKS`."""

_BREAKS = frozenset(",;:!?()[]{}")
_SPELLED = {  # letters that Unicode does not take apart
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
    "Đ": "D", "\u0131": "i",
}  # fmt: skip
_GREEK = re.compile(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)")

# Words that are also written in capitals as the short form of something else.
_ALSO_ACRONYMS = """
    ace act add age aid aids aim air alive apt arc arch are arm arms art asp bad bag bar base bat bay
    bed bee best bid big bit blast box boy bug bus cam camp can cap car care case cast cat cats cell
    chip clip coal cod cold cop cord cot cow crop cup cut dad dam dart date day deal den dig dim dip dog
    dot dry due ear east eat echo egg end era eve eye fact fan far fast fat fed fee feet few fig fin
    fish fist fit fix flag flip fog foot fox fun gap gas gate get gift glad goal god gold good grace
    grade grid gun gut had ham hand hat heart help hen hip hit hot ice idea ill imp ink iron jam jet job
    joint key kid kind lab lamp lap large last law lead leap led leg let lid life light like lip list
    lit live log lot low mad male man map mark mars mass mast mat men mice mild mind mine mint miss mode
    mop mud net new news nod note nurse nut oak oat odd oil old one ore owl pack pad page pain pal pan
    pap par past paste pat path pea peak pen pet pick pie pin pip pit plan play pot power pro pub pump
    race raft ram ran rap rare rat raw red rest rib rice rich rid ring rip rise rod rods rope rot safe
    sad sage sand sap sat save saw scan sea see self sent set shape she ship sing sip sir sit six ski
    skip smart sole son spa spot spy star stat step stop sum sun swan tab tack tag tail tan tap tar tea
    tear teen ten tent tie time tin tip toe ton top toy trace trap tree trend trip tub two van vast vet
    wag war wash way web wet win wine wise yes zap
"""
ORDINARY_WORDS = STOP_WORDS | frozenset(_ALSO_ACRONYMS.split())
"""English words (lower case): a concept's name of that spelling in capitals is found in capitals only."""


class _Fold(dict[int, str]):
    """Code point -> what it becomes; filled as letters are met. Any thread may fill it: always the same."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        result = "".join(map(self._fold, unicodedata.normalize("NFKD", letter)))
        self[code] = result
        return result

    @staticmethod
    def _fold(letter: str) -> str:
        if letter in _SPELLED:
            return _SPELLED[letter]
        category = unicodedata.category(letter)
        if unicodedata.combining(letter) or category == "Cf":  # accents, soft hyphens, joiners
            return ""
        if greek := _GREEK.fullmatch(unicodedata.name(letter, "")):
            return greek[1].replace("LAMDA", "LAMBDA").lower()
        if letter in _BREAKS:
            return BREAK
        if not (letter.isalnum() or category.startswith("M")):
            return " "
        lower = letter.casefold()
        return letter if len(lower) == 1 else lower


_FOLD = _Fold()


def folded(text: str) -> str:
    """The words of a text, each in blanks of its own, in their own case; "" when there is none.

    ``len(folded(text)) == len(folded(text).casefold())``.
    """
    plain = text.translate(_FOLD)
    if BREAK in plain:
        plain = plain.replace(BREAK, f" {BREAK} ")
    words = plain.split()
    return f" {'  '.join(words)} " if words else ""


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of `folded` lie in the text: (start, end) of each, in characters."""
    spans: list[tuple[int, int]] = []
    start: int | None = None
    end = 0
    for at, letter in enumerate(text):
        for part in _FOLD[ord(letter)] or ("",):
            if part not in (" ", BREAK):
                start, end = at if start is None and part else start, at + 1
                continue
            if start is not None:
                spans.append((start, end))
                start = None
            if part == BREAK:
                spans.append((at, at + 1))
    if start is not None:
        spans.append((start, end))
    return spans


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name or synonym as it is looked for."""

    text: str
    """Folded, in lower case, without breaks at its ends; "" when there is nothing to look for."""
    capitals_only: bool


def pattern(synonym: str) -> Pattern:
    """What to look for to find a name or synonym."""
    words = _words(synonym)
    return Pattern(_joined(words), _in_capitals_only(words))


def other_numbers(synonym: str) -> list[str]:
    """The plural and singular forms of a name, each as a `Pattern`'s text; without the name itself.

    Only the last word changes. The rules make words that do not exist ("viruse"): they do no harm.
    """
    words = _words(synonym)
    if not words or not words[-1].isalpha() or len(words[-1]) < 3 or _in_capitals_only(words):
        return []
    last = words.pop()
    if last[1:].islower():
        forms = dict.fromkeys((*_plurals(last.casefold()), *_singulars(last.casefold())))
    elif last.endswith("s") and last[-2].isupper():  # mRNAs
        forms = {last[:-1]: None}
    else:  # DNA, mRNA; but MERS is not the plural of MER
        forms = {f"{last}s": None}
    return [_joined([*words, form]) for form in forms if form != last.casefold()]


def _words(synonym: str) -> list[str]:
    words = folded(synonym).split()
    while words and words[0] == BREAK:
        del words[0]
    while words and words[-1] == BREAK:
        del words[-1]
    return words


def _joined(words: list[str]) -> str:
    return f" {'  '.join(words)} ".casefold() if words else ""


def _in_capitals_only(words: list[str]) -> bool:
    return len(words) == 1 and words[0].isupper() and words[0].casefold() in ORDINARY_WORDS


def _plurals(word: str) -> Iterator[str]:
    if word.endswith("y") and word[-2] not in "aeiou":
        yield word[:-1] + "ies"
    elif word.endswith(("s", "x", "z", "ch", "sh")):
        yield word + "es"
    else:
        yield word + "s"
    for ending, plural in (("us", "i"), ("is", "es"), ("um", "a"), ("ix", "ices"), ("ex", "ices")):
        if word.endswith(ending) and len(word) > 4:
            yield word[: -len(ending)] + plural


def _singulars(word: str) -> Iterator[str]:
    if word.endswith("ies") and len(word) > 4:
        yield word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes")) and len(word) > 5:
        yield word[:-2]
        if word.endswith("ses"):
            yield word[:-2] + "is"
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        yield word[:-1]
    for ending, singular in (("i", "us"), ("a", "um"), ("ices", "ix"), ("ices", "ex")):
        if word.endswith(ending) and len(word) > 5:
            yield word[: -len(ending)] + singular
