"""What `/qasearch` gives: answers, their sources, and how much of the corpus was read."""

from __future__ import annotations

import enum
from typing import Any

from pydantic import ConfigDict, Field

from keymiss.api_shapes.base import CREATED_AT, EXAMPLE_QUESTION, SENTENCEKEY, ConceptName, Reply, Shape


class Signal(enum.StrEnum):
    """What sentences are found by beside their words."""

    VECTORS = "vectors"
    LINKS = "links"


class Reason(enum.StrEnum):
    """Why it could not be used."""

    LATE = "late"  # not within its time limit
    BUSY = "busy"  # the shard's queue is full
    FAILED = "failed"  # no worker, no encoder, the shard or the graph is away, the concept table was not read
    INCOMPLETE = "incomplete"  # sentences of these shards have no vector yet


class ConceptLink(Shape):
    """A link between two concepts that the question names."""

    source: str
    target: str
    source_name: str
    target_name: str
    rank: int = Field(description="How many sentences carry the link.")
    first_year: int | None = Field(description="Of the oldest of them; null when no year is known.")
    created_at: str | None = Field(description=CREATED_AT)


class Source(Shape):
    """One answer, cut from one sentence."""

    answer: str
    sentence: str
    sentencekey: str = Field(description=SENTENCEKEY)
    article: str
    title: str | None = Field(description="The article's title; null when it is not known.")
    year: int | None = Field(description="Of the article; null when it is not known.")
    start: int | None = Field(
        description="Where the answer begins in the sentence, in characters (Unicode code points); "
        "null when it does not stand there."
    )
    end: int | None = Field(description="Where it ends; the character at this offset is not of it.")
    score: float = Field(
        description="How sure the answer is, 0 to 1: by the reader, and by how much of the question is in "
        "the sentence and around it. What answers are sorted by and `min_score` is compared with."
    )
    reader_score: float = Field(
        description="The reader's score of this sentence alone, 0 to 1: its probability of being the answer."
    )
    shard: str = Field(description="The hash tag that names the shard.")
    cached: bool = Field(description="The answer was there already; false: the model ran for it.")
    took_ms: float = Field(description="Milliseconds until this answer was there.")


class Result(Source):
    """An answer, as its best source gave it, and all sources that gave the same."""

    bm25: float = Field(description="The score of the search by words; 0 when they did not find it.")
    cosine: float | None = Field(description="Of the vectors of question and sentence; null without them.")
    found_by: tuple[str, ...] = Field(description="What found the sentence: bm25, vectors, graph.")
    sources: tuple[Source, ...] = Field(description="Best first; the first one is the result itself.")


class Passage(Shape):
    """A sentence that has to do with the question, and that no answer of the reply was cut from."""

    sentence: str
    sentencekey: str = Field(description=SENTENCEKEY)
    article: str
    title: str | None = Field(description="The article's title; null when it is not known.")
    year: int | None = Field(description="Of the article; null when it is not known.")
    retrieval_score: float = Field(
        description="How well the search liked the sentence: its share of the best one's score, 0 to 1. "
        "Comparable within one question only; it does not say whether the sentence holds an answer."
    )
    bm25: float = Field(description="The score of the search by words; 0 when they did not find it.")
    cosine: float | None = Field(description="Of the vectors of question and sentence; null without them.")
    found_by: tuple[str, ...] = Field(description="What found the sentence: bm25, vectors, graph.")


class SentenceCoverage(Shape):
    """Sentences; asked = answered + late + failed."""

    asked: int
    answered: int
    late: int
    failed: int
    unread: int = Field(
        0, description="Not asked: an answer was sure before, or they lie far behind. See `exhaustive`."
    )


class ShardCoverage(Shape):
    """Shards by name; one is in each list that fits one of its sentences."""

    asked: tuple[str, ...]
    answered: tuple[str, ...]
    late: tuple[str, ...]
    failed: tuple[str, ...]
    unindexed: tuple[str, ...] = Field(description="Not asked: their sentences have not been read yet.")


class UnusedSignal(Shape):
    """What sentences could not be found by."""

    signal: Signal = Field(
        description="vectors: of the question or of sentences; links: between the question's concepts."
    )
    reason: Reason = Field(
        description="late: not within its time limit; busy: the shard's queue is full; failed: no worker, no "
        "encoder, the shard or the graph is away, the concept table was not read; incomplete: sentences of "
        "these shards have no vector yet."
    )
    missing: tuple[str, ...] = Field(description="The shards by name, or the graph's server; may be empty.")


class Coverage(Shape):
    """How much of what was asked was answered, and by what it was searched."""

    sentences: SentenceCoverage
    shards: ShardCoverage
    unused: tuple[UnusedSignal, ...] = Field(
        description="One for each signal and reason; empty when all sentences were searched by all."
    )


class Stages(Shape):
    """Milliseconds of each part of the work, one after the other."""

    retrieve: float = Field(description="Finding the sentences to ask.")
    ask: float = Field(description="The shards' answers; beside them titles, concepts and links.")
    merge: float


EXAMPLE_SOURCE: dict[str, Any] = {
    "answer": "infected children",
    "sentence": "In most households the virus is passed to adults by infected children.",
    "sentencekey": "sentence:KM0001:{hno}:33",
    "article": "KM0001",
    "title": "How respiratory viruses move through a household",
    "year": 2020,
    "start": 52,
    "end": 69,
    "score": 0.83,
    "reader_score": 0.83,
    "shard": "6fd",
    "cached": False,
    "took_ms": 18.4,
}
EXAMPLE_COVERAGE: dict[str, Any] = {
    "sentences": {"asked": 20, "answered": 15, "late": 5, "failed": 0, "unread": 0},
    "shards": {
        "asked": ["6fd", "1x7", "a0", "b3"],
        "answered": ["6fd", "1x7", "a0"],
        "late": ["b3"],
        "failed": [],
        "unindexed": [],
    },
    "unused": [{"signal": "links", "reason": "late", "missing": ["b3"]}],
}
EXAMPLE_PASSAGE: dict[str, Any] = {
    "sentence": "Adults who live with children report more colds than those who do not.",
    "sentencekey": "sentence:KM0012:{b3}:8",
    "article": "KM0012",
    "title": "Colds in families",
    "year": 2017,
    "retrieval_score": 0.62,
    "bm25": 3.1502,
    "cosine": 0.58,
    "found_by": ["bm25", "vectors"],
}
EXAMPLE_REPLY: dict[str, Any] = {
    "question": EXAMPLE_QUESTION,
    "found": True,
    "message": None,
    "concepts": [{"id": "KC0012", "name": "transmission"}, {"id": "KC0140", "name": "adult"}],
    "links": [
        {
            "source": "KC0012",
            "target": "KC0140",
            "source_name": "transmission",
            "target_name": "adult",
            "rank": 7,
            "first_year": 2019,
            "created_at": "2019",
        }
    ],
    "results": [
        EXAMPLE_SOURCE
        | {
            "bm25": 4.2107,
            "cosine": 0.71,
            "found_by": ["bm25", "vectors"],
            "sources": [
                EXAMPLE_SOURCE,
                EXAMPLE_SOURCE
                | {
                    "answer": "Infected children",
                    "sentence": "Infected children bring it home.",
                    "sentencekey": "sentence:KM0007:{a0}:4",
                    "article": "KM0007",
                    "title": "Schools and seasonal epidemics",
                    "year": 2018,
                    "start": 0,
                    "end": 17,
                    "score": 0.31,
                    "reader_score": 0.44,
                    "shard": "a0",
                    "cached": True,
                    "took_ms": 0.9,
                },
            ],
        }
    ],
    "closest": [EXAMPLE_PASSAGE],
    "total": 1,
    "limit": 20,
    "offset": 0,
    "score": 0.83,
    "coverage": EXAMPLE_COVERAGE,
    "took_ms": 41.9,
    "stages_ms": {"retrieve": 6.1, "ask": 35.2, "merge": 0.6},
}
EXAMPLE_NOTHING: dict[str, Any] = EXAMPLE_REPLY | {
    "found": False,
    "message": "No sure answer: 15 sentences were read on 3 shards, and the best answer's probability, "
    "0.04, is below 0.3. 5 sentences did not answer in time (shards b3).",
    "concepts": [],
    "links": [],
    "results": [],
    "total": 0,
    "score": None,
}


class Answers(Reply):
    """Answers, best first."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_REPLY, EXAMPLE_NOTHING]})

    question: str = Field(description="As it was asked, without surplus white space.")
    found: bool = Field(description="False: no sentence holds an answer that the reader is sure enough of.")
    message: str | None = Field(description="When nothing was found: what was read, and what was not.")
    concepts: tuple[ConceptName, ...] = Field(description="Concepts that the question names.")
    links: tuple[ConceptLink, ...] = Field(description="Links between those concepts, best first.")
    results: tuple[Result, ...]
    closest: tuple[Passage, ...] = Field(
        description="The sentences that the search liked best, at most 5, best first, without those that "
        "gave an answer (`sources` of the results). Where nothing was found: where to read on."
    )
    total: int = Field(description="Results that there are; shown are `limit` at most, from `offset` on.")
    limit: int
    offset: int
    score: float | None = Field(description="The best answer's score; null without an answer.")
    coverage: Coverage
    took_ms: float
    stages_ms: Stages

    @property
    def best(self) -> Result | None:
        """The first result of this page; None when nothing was found, or the page is empty."""
        return self.results[0] if self.results else None

    @property
    def answer(self) -> str | None:
        """The best result's."""
        return self.best.answer if self.best else None

    @property
    def sentence(self) -> str | None:
        """The best result's: the sentence that the answer was cut from."""
        return self.best.sentence if self.best else None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The best result's: every sentence that gave this answer."""
        return self.best.sources if self.best else ()
