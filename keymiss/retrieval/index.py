"""The sentences of one shard, by their words and by their vectors."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keymiss.corpus.neighbours import (
    MAX_NEIGHBOUR_CHARS,
    NEIGHBOURS,
    in_order,
    texts_in_context,
    vectors_in_context,
)
from keymiss.keys import SENTENCE_PREFIX
from keymiss.reading.stored_vector import DIMENSIONS, Encoded, Vector, from_field
from keymiss.retrieval.candidate import Candidate, parse_sentence_key
from keymiss.retrieval.corpus_filter import WHOLE_CORPUS, CorpusFilter
from keymiss.retrieval.lexical import Frequencies, WordIndex, boosts, stems
from keymiss.retrieval.vectors import VectorIndex

log = logging.getLogger(__name__)

Hits = list[tuple[int, float]]  # (number of the sentence in this index, score), best first

_versions = itertools.count()


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the index."""

    article: str
    tag: str
    idx: str
    text: str

    def candidate(self, bm25: float, cosine: float | None = None) -> Candidate:
        """As found by words alone."""
        return Candidate(self.article, self.tag, self.idx, self.text, bm25, cosine)


@dataclass(frozen=True, slots=True)
class _Hash:
    """A hash in the index: a digest of its sentences and year, their numbers in the article's order."""

    digest: bytes
    numbers: dict[str, int]
    article: str
    year: int | None


class ShardIndex:
    """The sentences of one shard. `put` and `drop` take effect at `commit`, for vectors at once.

    One thread at a time may change it; any number may search. `neighbours`: see keymiss.corpus.neighbours;
    0: none count. `version`: another one after each change, and of this index alone: a search that ended in
    the version in which it began gives the same as long as that is the version.
    """

    def __init__(self, neighbours: int = NEIGHBOURS) -> None:
        self._neighbours = neighbours
        self._words = WordIndex()
        self._vectors: dict[bytes, VectorIndex] = {}  # by the mark of their encoder; replaced, not changed
        self._hashes: dict[bytes, _Hash] = {}
        self._uncommitted: set[bytes] = set()
        self._sentences: dict[int, Sentence] = {}
        self._numbers = itertools.count()
        self._texts = 0  # sentences that were put with their vectors
        self.version = next(_versions)

    @property
    def keys(self) -> set[bytes]:
        """The ``sentence:*`` hashes that are in the index."""
        return set(self._hashes)

    def __contains__(self, key: bytes) -> bool:
        """Whether the hash can be found, as it was at the last `commit`."""
        return key in self._hashes and key not in self._uncommitted

    @property
    def articles(self) -> int:
        """How many articles' sentences are in the index."""
        return len(self._hashes)

    @property
    def sentences(self) -> int:
        """How many sentences can be found."""
        return len(self._words)

    def vectors(self, encoder: bytes | None = None) -> int:
        """How many of them can be found by a vector: of the encoder with this mark, or of any."""
        return sum(len(index) for mark, index in self._vectors.items() if encoder in (None, mark))

    def lacks_vectors(self, encoder: bytes | None = None) -> bool:
        """Whether some sentence, one that is found after the next `commit` too, has none, as `vectors`."""
        return self.vectors(encoder) < self._texts

    def stands_in_for(self, other: ShardIndex, key: bytes) -> bool:
        """Whether the hash can be found here, by as many vectors as there if the sentences are the same."""
        own, others = self._hashes.get(key), other._hashes.get(key)
        if own is None or key not in self:
            return False
        if others is None or self._texts_of(own) != other._texts_of(others):
            return True
        return self._vectors_of(own) >= other._vectors_of(others)

    def _texts_of(self, known: _Hash) -> dict[str, str]:
        there = ((idx, self._sentences.get(number)) for idx, number in known.numbers.items())
        return {idx: sentence.text for idx, sentence in there if sentence}

    def _vectors_of(self, known: _Hash) -> int:
        numbers = known.numbers.values()
        return sum(number in index for index in self._vectors.values() for number in numbers)

    @property
    def changed(self) -> bool:
        """Whether `commit` has something to do."""
        return self._words.changed

    def put(
        self,
        key: bytes,
        fields: Mapping[bytes, bytes],
        vectors: Mapping[bytes, bytes] | None = None,
        year: int | None = None,
    ) -> None:
        """Makes the index hold exactly these sentences for one ``sentence:*`` hash.

        `vectors` are the fields of its ``vectors:*`` hash. One that is not of its sentence as it is now is
        left out: that sentence is found by its words alone. `year`: the article's; None when it is not known.
        """
        parsed = parse_sentence_key(key)
        if parsed is None:
            log.warning("not indexed, because the key is not sentence:<article>:{tag}: %r", key)
            return
        if not fields:
            self.drop(key)
            return
        self.version = next(_versions)
        known, digest = self._hashes.get(key), _digest(fields, year)
        added = 0
        if known is None or known.digest != digest:
            old = known.numbers if known else {}
            numbers = self._put_sentences(key, *parsed, fields, old, year)
            added = len(numbers.keys() - old.keys())
            self._uncommitted.add(key)
            known = self._hashes[key] = _Hash(digest, numbers, parsed[0], year)
        self._put_vectors(known.numbers, vectors or {})
        self._texts += added
        self.version = next(_versions)

    def _put_sentences(
        self,
        key: bytes,
        article: str,
        tag: str,
        fields: Mapping[bytes, bytes],
        old: Mapping[str, int],
        year: int | None,
    ) -> dict[str, int]:
        """A sentence keeps its number as long as its field is there."""
        texts = {idx.decode(errors="replace"): text.decode(errors="replace") for idx, text in fields.items()}
        ordered = in_order(texts)
        numbers = {idx: old[idx] if idx in old else next(self._numbers) for idx in ordered}
        if old:
            self._words.remove(key.decode())
            self._forget([number for idx, number in old.items() if idx not in numbers])
        indexed = texts_in_context([texts[idx] for idx in ordered], self._neighbours)
        for idx, text in zip(ordered, indexed, strict=True):
            self._sentences[numbers[idx]] = Sentence(article, tag, idx, texts[idx])
            self._words.add(key.decode(), numbers[idx], text, year)
        return numbers

    def _put_vectors(self, numbers: Mapping[str, int], fields: Mapping[bytes, bytes]) -> None:
        found: dict[bytes, dict[int, Vector]] = {}
        for row, (idx, number) in enumerate(numbers.items()):
            encoded = from_field(fields.get(idx.encode(), b""), self._sentences[number].text)
            if encoded is not None:
                found.setdefault(encoded.encoder, {})[row] = encoded.vector
        indexes = self._vectors | {encoder: VectorIndex() for encoder in found.keys() - self._vectors.keys()}
        for encoder, index in indexes.items():
            self._put_vectors_of(index, list(numbers.values()), found.get(encoder, {}))
        self._vectors = {encoder: index for encoder, index in indexes.items() if len(index)}

    def _put_vectors_of(
        self, index: VectorIndex, numbers: Sequence[int], there: Mapping[int, Vector]
    ) -> None:
        """Of one encoder and one hash; `there`: row in `numbers` -> vector."""
        index.remove(number for row, number in enumerate(numbers) if row not in there)
        if there:
            own = np.zeros((len(numbers), DIMENSIONS), np.float32)
            own[list(there)] = np.stack(list(there.values()))
            mixed = vectors_in_context(own, self._neighbours)
            index.put({numbers[row]: mixed[row] for row in there})

    def _forget(self, numbers: Sequence[int]) -> None:
        self._texts -= len(numbers)
        for number in numbers:
            del self._sentences[number]
        for index in self._vectors.values():
            index.remove(numbers)

    def drop(self, key: bytes) -> None:
        """Takes a hash's sentences out."""
        known = self._hashes.pop(key, None)
        if known is not None:
            self._words.remove(key.decode())
            self._forget(list(known.numbers.values()))
            self.version = next(_versions)

    def commit(self) -> None:
        """Makes what was put and dropped visible."""
        self._words.commit()
        self._uncommitted = set()
        self.version = next(_versions)

    def terms(self, question: str) -> list[str]:
        """The words to look for."""
        return self._words.terms(question)

    def frequencies(self, terms: Sequence[str]) -> Frequencies:
        """How rare they are here."""
        return self._words.frequencies(terms)

    def within(self, only: CorpusFilter) -> set[int]:
        """The numbers of the sentences that the filter takes."""
        hashes = [each for each in list(self._hashes.values()) if only.takes(each.article, each.year)]
        return {number for each in hashes for number in each.numbers.values()}

    def by_words(
        self, own: Frequencies, whole: Frequencies, limit: int, only: CorpusFilter = WHOLE_CORPUS
    ) -> Hits:
        """The best by BM25 with the weights of the whole corpus; `own`: this index's `frequencies`."""
        keys = None
        if only.articles:
            hashes = list(self._hashes.items())
            keys = [key.decode() for key, each in hashes if each.article in only.articles]
        hits = self._words.search(boosts(own, whole), limit, keys, (only.first_year, only.last_year))
        return [hit for hit in hits if hit[0] in self._sentences]  # not what was dropped since the commit

    def by_vector(self, question: Encoded, limit: int, only: CorpusFilter = WHOLE_CORPUS) -> Hits:
        """The nearest by cosine, of those that are of the question's encoder."""
        index = self._vectors.get(question.encoder)
        if index is None:
            return []
        numbers = self.within(only) if only else None
        return [hit for hit in index.search(question.vector, limit, numbers) if hit[0] in self._sentences]

    def number(self, article: str, tag: str, idx: str, only: CorpusFilter = WHOLE_CORPUS) -> int | None:
        """Of a sentence, None if it is not here or the filter leaves it out."""
        known = self._hashes.get(_key(article, tag))
        return known.numbers.get(idx) if known and only.takes(known.article, known.year) else None

    def sentence(self, number: int) -> Sentence | None:
        """None if it was dropped in the meantime."""
        return self._sentences.get(number)

    def cosines(self, numbers: Collection[int], question: Encoded) -> dict[int, float]:
        """Of those sentences that have a vector of the question's encoder."""
        index = self._vectors.get(question.encoder)
        return index.cosines(numbers, question.vector) if index else {}

    def coverage(self, number: int, weights: Mapping[str, float]) -> float:
        """The share of these terms' weights that are in a sentence or its neighbours; 0 if it was dropped."""
        sentence, total = self._sentences.get(number), sum(weights.values())
        known = self._hashes.get(_key(sentence.article, sentence.tag)) if sentence else None
        if known is None or number not in (numbers := list(known.numbers.values())) or total <= 0:
            return 0.0
        at = numbers.index(number)
        near = numbers[max(0, at - self._neighbours) : at + 1 + self._neighbours]
        texts = [self._sentences[each].text[:MAX_NEIGHBOUR_CHARS] for each in near if each in self._sentences]
        there = frozenset().union(*map(stems, texts))
        return sum(weight for term, weight in weights.items() if term in there) / total

    def search(self, question: str, limit: int) -> list[Candidate]:
        """The at most ``limit`` best sentences by words, best first."""
        own = self.frequencies(self.terms(question))
        return [self._sentences[number].candidate(bm25) for number, bm25 in self.by_words(own, own, limit)]

    def first(self) -> Candidate | None:
        """Some sentence, as long as there is one."""
        number = next(iter(self._sentences), None)
        return None if number is None else self._sentences[number].candidate(1.0)


def _key(article: str, tag: str) -> bytes:
    return f"{SENTENCE_PREFIX}{article}:{{{tag}}}".encode("utf-8", "surrogateescape")


def _digest(fields: Mapping[bytes, bytes], year: int | None) -> bytes:
    """Of a hash's content and its year; lengths go in, so that no two contents look alike."""
    digest = hashlib.sha256(f"{year} ".encode())
    for idx, sentence in sorted(fields.items()):
        digest.update(b"%d:%d:" % (len(idx), len(sentence)) + idx + sentence)
    return digest.digest()
