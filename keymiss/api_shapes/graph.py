"""What `/search` and `/edge` give: concepts, links between them, the sentences behind a link."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from keymiss.api_shapes.base import CREATED_AT, EXAMPLE_QUESTION, SENTENCEKEY, ConceptName, Reply, Shape


class Node(Shape):
    """A concept of the graph."""

    id: str
    name: str = Field(description="The id again when the concept table does not have the concept.")
    rank: int = Field(description="The sum of the ranks of all its links, whatever the years.")


class GraphLink(Shape):
    """Two concepts that sentences mention together."""

    source: str
    target: str
    rank: int = Field(description="How many sentences mention both; of the years asked for.")
    first_year: int | None = Field(description="Of the oldest of them; null when no year is known.")
    created_at: str | None = Field(description=CREATED_AT)


EXAMPLE_SEARCH: dict[str, Any] = {
    "search": EXAMPLE_QUESTION,
    "concepts": [{"id": "KC0012", "name": "transmission"}, {"id": "KC0140", "name": "adult"}],
    "nodes": [
        {"id": "KC0012", "name": "transmission", "rank": 91},
        {"id": "KC0140", "name": "adult", "rank": 40},
        {"id": "KC0077", "name": "household", "rank": 22},
    ],
    "links": [
        {"source": "KC0012", "target": "KC0140", "rank": 7, "first_year": 2019, "created_at": "2019"},
        {"source": "KC0012", "target": "KC0077", "rank": 11, "first_year": 2018, "created_at": "2018"},
    ],
    "years": [2018, 2019, 2020],
    "total": 2,
    "limit": 20,
    "offset": 0,
    "excluded": [],
    "missing": [],
    "took_ms": 3.1,
}
EXAMPLE_NO_CONCEPT: dict[str, Any] = EXAMPLE_SEARCH | {
    "search": "Nothing that the table knows",
    "concepts": [],
    "nodes": [],
    "links": [],
    "years": [],
    "total": 0,
}


class SearchReply(Reply):
    """The links of the concepts of a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_SEARCH, EXAMPLE_NO_CONCEPT]})

    search: str
    concepts: tuple[ConceptName, ...] = Field(
        description="The concepts that the text mentions. Empty: none, or no concept table is loaded."
    )
    nodes: tuple[Node, ...] = Field(description="The ends of the links shown, highest rank first.")
    links: tuple[GraphLink, ...] = Field(
        description="Links between two of the concepts, then those to their neighbours; each best first."
    )
    years: tuple[int, ...] = Field(description="All years in which the links shown have sentences.")
    total: int = Field(description="Links that there are, among the 1000 best of each concept and shard.")
    limit: int
    offset: int
    excluded: tuple[str, ...] = Field(description="The concepts that this client has excluded: GET /exclude.")
    missing: tuple[str, ...] = Field(description="Shards that did not answer: what they hold is not counted.")
    took_ms: float


EXAMPLE_EDGE: dict[str, Any] = {
    "source": {"id": "KC0012", "name": "transmission", "rank": 91},
    "target": {"id": "KC0140", "name": "adult", "rank": 40},
    "rank": 7,
    "first_year": 2019,
    "years": {"2019": 2, "2020": 5},
    "sentences": [
        {
            "sentence": "Viral transmission among adults is performed by infected children.",
            "sentencekey": "sentence:KM0001:{hno}:33",
            "article": "KM0001",
            "title": "How respiratory viruses move through a household",
            "year": 2020,
            "score": 1.0,
            "shard": "6fd",
        }
    ],
    "total": 7,
    "limit": 20,
    "offset": 0,
    "missing": [],
    "took_ms": 2.4,
}


class EdgeSentence(Shape):
    """A sentence that mentions both concepts."""

    sentence: str | None = Field(description="Null when it cannot be read now, or is just being removed.")
    sentencekey: str = Field(description=SENTENCEKEY)
    article: str
    title: str | None = Field(description="The article's title; null when it is not known.")
    year: int | None
    score: float = Field(description="How much the sentence says about the link: the more, the better.")
    shard: str = Field(description="The hash tag that names the shard.")


class EdgeReply(Reply):
    """A link and its sentences."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_EDGE]})

    source: Node
    target: Node
    rank: int = Field(description="How many sentences mention both; of the years asked for.")
    first_year: int | None = Field(description="Of the oldest of them; null when no year is known.")
    years: dict[str, int] = Field(description="Year -> sentences, of all years.")
    sentences: tuple[EdgeSentence, ...] = Field(description="Highest score first.")
    total: int = Field(description="Sentences that there are; of the years asked for.")
    limit: int
    offset: int
    missing: tuple[str, ...] = Field(description="Shards that did not answer: what they hold is not counted.")
    took_ms: float


EXAMPLE_ORIGINAL_EDGE: dict[str, Any] = {
    "results": [
        EXAMPLE_EDGE["sentences"][0] | {"article_id": "article_id:KM0001", "summary": "TBC"},
    ],
    "years": ["2020"],
    **{name: EXAMPLE_EDGE[name] for name in ("source", "target", "rank", "first_year", "total")},
    "limit": 5,
    "offset": 0,
    "missing": [],
    "took_ms": 2.4,
}


class OriginalEdgeSentence(EdgeSentence):
    """A sentence, with the members that only The Pattern has."""

    article_id: str = Field(description="article_id:<article>")
    summary: str = Field(description="Always TBC, which is what The Pattern says where it has no summary.")


class OriginalEdgeReply(Reply):
    """A link as The Pattern gives it, and what `/edge/<source>:<target>` says of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ORIGINAL_EDGE]})

    results: tuple[OriginalEdgeSentence, ...] = Field(description="Highest score first; one of each article.")
    years: tuple[str, ...] = Field(description="Of the results, as texts.")
    source: Node
    target: Node
    rank: int = Field(description="How many sentences mention both.")
    first_year: int | None = Field(description="Of the oldest of them; null when no year is known.")
    total: int = Field(description="Sentences that there are.")
    limit: int
    offset: int
    missing: tuple[str, ...] = Field(description="Shards that did not answer: what they hold is not counted.")
    took_ms: float


EXAMPLE_EXCLUDED: dict[str, Any] = {"message": "KC0140 is left out", "excluded": ["KC0012", "KC0140"]}


class Excluded(Reply):
    """What is left out of this client's searches from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_EXCLUDED]})

    message: str
    excluded: tuple[str, ...] = Field(
        description="Ids of concepts, in the order in which they were excluded."
    )
