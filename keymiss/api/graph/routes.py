"""GET and POST /search, GET /edge: shapes of requests and replies, and the routes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from keymiss.api.graph.replies import Explorer
from keymiss.api.http.body import Limits, read_model
from keymiss.api.http.disconnect import unless_client_leaves
from keymiss.api.http.openapi import json_body, problem_docs
from keymiss.api.http.problems import (
    AllLate,
    BadParameters,
    BadQuestion,
    BodyLate,
    BodyTooLarge,
    NoShardAnswered,
    NoSuchConcept,
    NoSuchEdge,
    NotJson,
)
from keymiss.api.http.shapes import (
    EXAMPLE_QUESTION,
    MAX_BODY_BYTES,
    MAX_OFFSET,
    MAX_QUESTION_CHARACTERS,
    ConceptName,
    clean_question,
)
from keymiss.api.settings import ApiSettings
from keymiss.graph.events import CONCEPT_ID_PATTERN
from keymiss.graph.years import MAX_RANGES, Years

MAX_LIMIT = 200
DEFAULT_LIMIT = 20
MAX_YEARS_CHARACTERS = 12 * MAX_RANGES  # "2019 - 2021,"


def _checked_years(text: str) -> str:
    Years.parse_text(text)
    return text


def _checked_list(years: list[int | str]) -> list[int | str]:
    Years.parse(years)
    return years


SearchText = Annotated[
    str,
    Query(
        min_length=1,
        max_length=MAX_QUESTION_CHARACTERS,
        description="A question, or any words; the concepts in it are looked up.",
        examples=[EXAMPLE_QUESTION],
    ),
    AfterValidator(clean_question),
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries at most.", examples=[20])]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Entries to leave out first.", examples=[0])]
YearsText = Annotated[
    str,
    Query(
        max_length=MAX_YEARS_CHARACTERS,
        description="Only sentences of these years count: years and ranges, separated by commas. Empty: all "
        "sentences, also those whose year is not known.",
        examples=["2019-2021,2023"],
    ),
    AfterValidator(_checked_years),
]


def _concept_path(what: str, example: str) -> Any:
    return Path(pattern=f"^{CONCEPT_ID_PATTERN}$", description=what, examples=[example])


SourceId = Annotated[str, _concept_path("A concept's id.", "KC0012")]
TargetId = Annotated[str, _concept_path("Another concept's id.", "KC0140")]


class Search(BaseModel):
    """What to look up. Other members are ignored, as clients of the original send some."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"search": EXAMPLE_QUESTION},
                {"search": EXAMPLE_QUESTION, "limit": 20, "offset": 0, "years": ["2019-2021", 2023]},
            ]
        },
    )

    search: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_QUESTION_CHARACTERS,
            description="A question, or any words; the concepts in it are looked up.",
        ),
        AfterValidator(clean_question),
    ]
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Links at most.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description="Links to leave out first.")
    years: Annotated[list[int | str], AfterValidator(_checked_list)] = Field(
        [],
        max_length=MAX_RANGES,
        description="Only sentences of these years and ranges count; empty: all sentences.",
    )


class Node(BaseModel):
    """A concept of the graph."""

    id: str
    name: str = Field(description="The id again when the concept table does not have the concept.")
    rank: int = Field(description="The sum of the ranks of all its links, whatever the years.")


class GraphLink(BaseModel):
    """Two concepts that sentences mention together."""

    source: str
    target: str
    rank: int = Field(description="How many sentences mention both; of the years asked for.")
    first_year: int | None = Field(description="Of the oldest of them; null when no year is known.")


EXAMPLE_SEARCH: dict[str, Any] = {
    "search": EXAMPLE_QUESTION,
    "concepts": [{"id": "KC0012", "name": "transmission"}, {"id": "KC0140", "name": "adult"}],
    "nodes": [
        {"id": "KC0012", "name": "transmission", "rank": 91},
        {"id": "KC0140", "name": "adult", "rank": 40},
        {"id": "KC0077", "name": "household", "rank": 22},
    ],
    "links": [
        {"source": "KC0012", "target": "KC0140", "rank": 7, "first_year": 2019},
        {"source": "KC0012", "target": "KC0077", "rank": 11, "first_year": 2018},
    ],
    "years": [2018, 2019, 2020],
    "total": 2,
    "limit": 20,
    "offset": 0,
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


class SearchReply(BaseModel):
    """The links of the concepts of a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_SEARCH, EXAMPLE_NO_CONCEPT]})

    search: str
    concepts: list[ConceptName] = Field(
        description="The concepts that the text mentions. Empty: none, or no concept table is loaded."
    )
    nodes: list[Node] = Field(description="The ends of the links shown, highest rank first.")
    links: list[GraphLink] = Field(
        description="Links between two of the concepts, then those to their neighbours; each best first."
    )
    years: list[int] = Field(description="All years in which the links shown have sentences.")
    total: int = Field(description="Links that there are, among the 1000 best of each concept and shard.")
    limit: int
    offset: int
    missing: list[str] = Field(description="Shards that did not answer: what they hold is not counted.")
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
            "sentencekey": "KM0001:{6fd}:33",
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


class EdgeSentence(BaseModel):
    """A sentence that mentions both concepts."""

    sentence: str | None = Field(description="Null when it cannot be read now, or is just being removed.")
    sentencekey: str = Field(description="<article>:{tag}:<idx>")
    article: str
    title: str | None = Field(description="The article's title; null when it is not known.")
    year: int | None
    score: float = Field(description="How much the sentence says about the link: the more, the better.")
    shard: str = Field(description="The hash tag that names the shard.")


class EdgeReply(BaseModel):
    """A link and its sentences."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_EDGE]})

    source: Node
    target: Node
    rank: int = Field(description="How many sentences mention both; of the years asked for.")
    first_year: int | None = Field(description="Of the oldest of them; null when no year is known.")
    years: dict[str, int] = Field(description="Year -> sentences, of all years.")
    sentences: list[EdgeSentence] = Field(description="Highest score first.")
    total: int = Field(description="Sentences that there are; of the years asked for.")
    limit: int
    offset: int
    missing: list[str] = Field(description="Shards that did not answer: what they hold is not counted.")
    took_ms: float


async def read_search(request: Request) -> Search:
    """The body as a search. NotJson, BodyLate, BodyTooLarge, BadQuestion."""
    settings: ApiSettings = request.app.state.settings
    limits = Limits(MAX_BODY_BYTES, settings.body_time_limit_s)
    return await read_model(request, Search, limits, '{"search": "..."}')


router = APIRouter(tags=["concept graph"])


@router.get(
    "/search",
    response_model=SearchReply,
    summary="Links of the concepts in a text",
    responses=problem_docs(BadParameters, NoShardAnswered, AllLate),
)
async def search_by_address(
    request: Request,
    search: SearchText,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
    years: YearsText = "",
) -> Any:
    """Finds the concepts that the text mentions, and what the graph links them with."""
    explorer: Explorer = request.app.state.explorer
    return await explorer.search(search, Years.parse_text(years), offset, limit)


@router.post(
    "/search",
    response_model=SearchReply,
    summary="Links of the concepts in a text (POST)",
    responses=problem_docs(NotJson, BodyLate, BodyTooLarge, BadQuestion, NoShardAnswered, AllLate),
    openapi_extra=json_body(Search),
)
async def search_by_body(request: Request) -> Any:
    """As GET /search."""
    wanted = await read_search(request)
    explorer: Explorer = request.app.state.explorer
    work = explorer.search(wanted.search, Years.parse(wanted.years), wanted.offset, wanted.limit)
    return await unless_client_leaves(request, work)


@router.get(
    "/edge/{source}:{target}",
    response_model=EdgeReply,
    summary="A link and its sentences",
    responses=problem_docs(NoSuchConcept, NoSuchEdge, BadParameters, NoShardAnswered, AllLate),
)
async def edge(
    request: Request,
    source: SourceId,
    target: TargetId,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
    years: YearsText = "",
) -> Any:
    """Two concepts, in any order, and the sentences that mention both."""
    explorer: Explorer = request.app.state.explorer
    return await explorer.edge(source, target, Years.parse_text(years), offset, limit)
