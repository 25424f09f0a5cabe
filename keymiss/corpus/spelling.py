"""Repair of spelling, off by default: it damages what it does not know, and medicine is full of that.

Only a word of small letters, five at least, that the dictionary does not know and no concept has, is looked
at, and only one letter of it is changed. The dictionary is the one that `symspellpy` brings (82,765 English
words); without that package (the extra `spelling`) sentences stay as they are.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Any, Protocol

from keymiss.logs import log_event

WORD = re.compile(r"[^\W\d_]+")
PARTS = ("-", "/", "'", "\u2019")
"""What joins the parts of a word; a part alone is not looked at."""
MIN_LETTERS = 5
MIN_TIMES = 1_000_000
"""How often the word must stand in the dictionary's corpus to be taken for what was meant."""


class Words(Protocol):
    """What a concept matcher says of a word."""

    def has_word(self, word: str) -> bool:
        """True when a concept's name or synonym has it."""


@lru_cache(maxsize=1)
def _dictionary() -> Any | None:
    """About 100 MB and two seconds, once for the process. None, which is said once, without symspellpy."""
    try:
        from symspellpy import SymSpell
    except ModuleNotFoundError:
        log_event(
            "spelling_off",
            "warning",
            error="spelling is not repaired without symspellpy: pip install 'keymiss[spelling]'",
        )
        return None
    made = SymSpell(max_dictionary_edit_distance=1, prefix_length=7)
    with resources.as_file(resources.files("symspellpy") / "frequency_dictionary_en_82_765.txt") as path:
        if not made.load_dictionary(path, 0, 1):
            raise FileNotFoundError("symspellpy has no frequency_dictionary_en_82_765.txt: install it again")
    return made


class Repair:
    """Repairs sentences. `words`: what is never touched; None: nothing is known."""

    def __init__(self, words: Words | None) -> None:
        self._words = words
        self._dictionary = _dictionary()

    def sentence(self, sentence: str) -> str:
        """The sentence, its misspelt words replaced."""
        if self._dictionary is None:
            return sentence
        return WORD.sub(lambda found: self._word(self._dictionary, sentence, found), sentence)

    def _word(self, dictionary: Any, sentence: str, found: re.Match[str]) -> str:
        from symspellpy import Verbosity

        word = found.group()
        before, after = sentence[found.start() - 1 : found.start()], sentence[found.end() : found.end() + 1]
        compound = before in PARTS or after in PARTS
        if len(word) < MIN_LETTERS or not word.islower() or not word.isascii() or (before + after).isdigit():
            return word
        if compound or word in dictionary.words or (self._words and self._words.has_word(word)):
            return word
        best = dictionary.lookup(word, Verbosity.TOP, max_edit_distance=1)
        return best[0].term if best and best[0].count >= MIN_TIMES else word
