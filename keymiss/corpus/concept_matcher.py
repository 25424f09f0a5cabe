"""Concepts in a text: an Aho-Corasick automaton over all names, synonyms and their plurals and singulars.

Matches are whole words, the longest of those that begin first, and never overlap. Every match is
asked for and the longest chosen here, not by the automaton: its `iter_long` (pyahocorasick 2.3.1) misses
matches after a longer one broke off (names " b ", " c  b  c ", text " c  c  b ": nothing found), and a name
in capitals such as WHO is found in capitals only, so a match may turn out to be none.

Measured, in one thread: `ids` takes 10 us for a sentence of 25 words with the sample table (600 concepts).
A table of 190,000 names (515,000 texts with plurals) takes 3.4 s and 165 MB to build and 64 us for a
sentence with 13 of them; 880,000 names (2.4 million texts) 22 s and 770 MB.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import ahocorasick

from keymiss.corpus.concept_folding import folded, other_numbers, pattern, word_spans
from keymiss.corpus.concept_table import Concept, ConceptTable

SHOUTED_WORDS = 3
"""In a text of more words than these and no lower-case letter, capitals do not tell WHO from who."""


@dataclass(frozen=True, slots=True)
class Match:
    """A concept found in a text: ``text[start:end]``."""

    concept_id: str
    start: int
    end: int


class ConceptMatcher:
    """Finds a table's concepts. Read only after it is made: any number of threads may use it at once."""

    def __init__(self, table: ConceptTable) -> None:
        self._ids = list(table.concepts)
        # Of each pattern: its concept, its length, whether it is found in capitals only. The automaton's
        # own values are 32 bits wide, so they cannot hold all three.
        self._owners, self._lengths = array("I"), array("H")
        self._capitals_only = bytearray()
        self._automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        for owner, concept in enumerate(table.concepts.values()):
            for wanted in map(pattern, _names(concept)):
                self._add(wanted.text, owner, wanted.capitals_only)
        for owner, concept in enumerate(table.concepts.values()):  # after all: a name as it is written wins
            for name in _names(concept):
                for form in other_numbers(name):
                    self._add(form, owner, False)
        self._automaton.make_automaton()

    def _add(self, text: str, owner: int, capitals_only: bool) -> None:
        if text not in self._automaton:
            self._automaton.add_word(text, len(self._owners))
            self._owners.append(owner)
            self._lengths.append(len(text))
            self._capitals_only.append(capitals_only)

    def __len__(self) -> int:
        """How many different texts are looked for."""
        return len(self._owners)

    def has_word(self, word: str) -> bool:
        """Whether a word is part of a name or synonym, or of its plural or singular, whatever its case."""
        return any(part in self._words for part in folded(word).casefold().split())

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(word for text in self._automaton for word in text.split())

    def ids(self, text: str) -> list[str]:
        """The ids of the different concepts in a text, in the order in which they are first mentioned."""
        words = folded(text)
        return list(dict.fromkeys([self._ids[self._owners[number]] for number, _ in self._chosen(words)]))

    def find(self, text: str) -> list[Match]:
        """Every mention of a concept, in the order of the text."""
        words = folded(text)
        spans: list[tuple[int, int]] | None = None
        matches = []
        for number, start in self._chosen(words):
            spans = spans or word_spans(text)
            first = words.count("  ", 0, start + 1)
            last = words.count("  ", 0, start + self._lengths[number] - 1)
            concept_id = self._ids[self._owners[number]]
            matches.append(Match(concept_id, spans[first][0], spans[last][1]))
        return matches

    def _chosen(self, words: str) -> list[tuple[int, int]]:
        """(pattern's number, start in `words`) of the matches that count, by their start."""
        lengths = self._lengths
        found = []
        for end, number in self._automaton.iter(words.casefold()):
            length = lengths[number]
            found.append((end + 1 - length, -length, number))
        if not found:
            return []
        found.sort()
        chosen = []
        free = 0
        for start, minus_length, number in found:
            if start < free:
                continue
            if self._capitals_only[number] and not _stands_out(words, start, start - minus_length):
                continue
            chosen.append((number, start))
            free = start - minus_length
        return chosen


def _names(concept: Concept) -> Iterable[str]:
    return (concept.name, *concept.synonyms)


def _stands_out(words: str, start: int, end: int) -> bool:
    """Whether a word is in capitals, in a text that is not all in capitals."""
    if not words[start:end].isupper():
        return False
    return not words.isupper() or words.count("  ") < SHOUTED_WORDS
