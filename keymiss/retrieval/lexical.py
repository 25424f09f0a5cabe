"""BM25 over words: a tantivy index in memory.

tantivy rather than bm25s: it takes single documents in and out; bm25s builds a whole index anew.

A word's weight depends on how rare it is. Each shard knows only its own sentences, so a question asks all of
them first (`frequencies`), and each search is given what makes its weights those of the whole corpus
(`boosts`): without it the shards' scores cannot be compared.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, cast

import tantivy

from keymiss.corpus.stop_words import STOP_WORDS

WRITER_BYTES = 64_000_000  # a bulk load makes one segment of so much; searching many segments takes longer
MAX_QUERY_TERMS = 64  # of a question of 512 characters at most
LONGEST_TERM_BYTES = 60
EVERY = "every"
"""A field, and its one term, which each text has: tantivy counts the texts that are there, but of each term,
and in its weights, removed ones too."""
_IN_EVERY = {EVERY: EVERY}
STEMS_REMEMBERED = 4096  # sentences, of about 3 KB each


@dataclass(frozen=True, slots=True)
class Frequencies:
    """In how many of `documents` each term is."""

    documents: int
    of: Mapping[str, int]

    def idf(self, term: str) -> float:
        """tantivy's (and Lucene's) weight of a term."""
        has = self.of.get(term, 0)
        return math.log(1 + (self.documents - has + 0.5) / (has + 0.5))


def added_up(parts: Iterable[Frequencies]) -> Frequencies:
    """Of all shards together."""
    documents, of = 0, dict[str, int]()
    for part in parts:
        documents += part.documents
        for term, count in part.of.items():
            of[term] = of.get(term, 0) + count
    return Frequencies(documents, of)


def boosts(own: Frequencies, whole: Frequencies) -> dict[str, float]:
    """Term -> what its weight in this index has to be multiplied by; terms that it lacks are left out."""
    return {term: whole.idf(term) / own.idf(term) for term, count in own.of.items() if count}


@cache
def _stemming() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        tantivy.Filter.remove_long(LONGEST_TERM_BYTES),
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.stemmer("English"),
    ):
        builder = builder.filter(step)
    return builder.build()


@lru_cache(STEMS_REMEMBERED)
def stems(text: str) -> frozenset[str]:
    """All stems of a text, as they are indexed."""
    return frozenset(map(sys.intern, _stemming().analyze(text)))


def _plain() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    return builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold()).build()


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("key", tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("number", fast=True)
    builder.add_integer_field("year", fast=True)
    builder.add_text_field("body", tokenizer_name="keymiss_en", index_option="freq")
    builder.add_text_field(EVERY, tokenizer_name="raw", index_option="basic")
    return builder.build()


class WordIndex:
    """Texts by number. `add` and `remove` take effect at `commit`; `search` may run in another thread."""

    def __init__(self) -> None:
        self._schema = _schema()
        self._stemming, self._plain = _stemming(), _plain()
        self._index = tantivy.Index(self._schema)
        self._index.register_tokenizer("keymiss_en", self._stemming)
        self._writer: Any = self._index.writer(heap_size=WRITER_BYTES, num_threads=1)
        self._searcher = self._index.searcher()
        self.changed = False

    def __len__(self) -> int:
        """How many texts can be found."""
        return int(self._searcher.num_docs)

    def add(self, key: str, number: int, text: str, year: int | None = None) -> None:
        """One text; `key` names it and others for `remove` and `search`."""
        of_year = {} if year is None else {"year": year}
        self._writer.add_document(tantivy.Document(key=key, number=number, body=text, **_IN_EVERY, **of_year))
        self.changed = True

    def remove(self, key: str) -> None:
        """All texts that were added under a key."""
        self._writer.delete_documents_by_term("key", key)
        self.changed = True

    def commit(self) -> None:
        """Makes what was added and removed visible."""
        if self.changed:
            self._writer.commit()
            self._index.reload()
            self._searcher = self._index.searcher()
            self.changed = False

    def terms(self, question: str) -> list[str]:
        """The stems to look for: no operators, no stop words (unless there is nothing else)."""
        words = list(dict.fromkeys(self._plain.analyze(question)))
        content = [word for word in words if word not in STOP_WORDS] or words
        return list(dict.fromkeys(self._stemming.analyze(" ".join(content))))[:MAX_QUERY_TERMS]

    def frequencies(self, terms: Iterable[str]) -> Frequencies:
        """Of these terms in this index. A removed text counts until tantivy has cleaned up: as one of the
        documents and for each of its terms, as it does in tantivy's own weights."""
        count = self._searcher.doc_freq
        return Frequencies(int(count(EVERY, EVERY)), {term: int(count("body", term)) for term in terms})

    def search(
        self,
        weights: Mapping[str, float],
        limit: int,
        keys: Collection[str] | None = None,
        years: tuple[int | None, int | None] = (None, None),
    ) -> list[tuple[int, float]]:
        """(number, BM25) of the at most `limit` best texts, best first; `weights`: term -> boost.

        `keys`: only texts under these. `years`: only texts of the first to the last; None: that side is open.
        """
        queries = [(tantivy.Occur.Should, self._term_query(term, boost)) for term, boost in weights.items()]
        if not queries or limit < 1:
            return []
        searcher = self._searcher
        wanted = self._only(tantivy.Query.boolean_query(queries), keys, years)
        hits = searcher.search(wanted, limit, count=False).hits
        numbers = searcher.fast_field_values("number", [address for _, address in hits])
        scores = cast(list[float], [score for score, _ in hits])
        return list(zip(cast(list[int], numbers), scores, strict=True))

    def _only(
        self, query: tantivy.Query, keys: Collection[str] | None, years: tuple[int | None, int | None]
    ) -> tantivy.Query:
        """The query, held to some texts, whose scores stay what they are."""
        conditions = []
        if keys is not None:
            conditions.append(tantivy.Query.term_set_query(self._schema, "key", list(keys)))
        if years != (None, None):
            integer = tantivy.FieldType.Integer
            conditions.append(tantivy.Query.range_query(self._schema, "year", integer, *years))
        if not conditions:
            return query
        scoreless = [tantivy.Query.const_score_query(condition, 0.0) for condition in conditions]
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, each) for each in (query, *scoreless)])

    def _term_query(self, term: str, boost: float) -> tantivy.Query:
        query = tantivy.Query.term_query(self._schema, "body", term, index_option="freq")
        return tantivy.Query.boost_query(query, boost)
