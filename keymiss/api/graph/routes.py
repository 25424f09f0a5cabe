"""GET and POST /search, GET /edge: what can be looked up, and the routes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from keymiss.api.graph.excluded import excluded_by
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
from keymiss.api.http.question_text import (
    MAX_BODY_BYTES,
    MAX_OFFSET,
    MAX_QUESTION_CHARACTERS,
    clean_question,
)
from keymiss.api.settings import ApiSettings
from keymiss.api_shapes.base import EXAMPLE_QUESTION
from keymiss.api_shapes.graph import EdgeReply, SearchReply
from keymiss.graph.events import CONCEPT_ID_PATTERN
from keymiss.graph.years import MAX_RANGES, Years

MAX_LIMIT = 200
DEFAULT_LIMIT = 20
MAX_LINKS = 400
DEFAULT_LINKS = 300
"""As many as The Pattern gives: pages written for it say no limit."""

MAX_YEARS_CHARACTERS = 12 * MAX_RANGES  # "2019 - 2021,"


def _checked_years(text: str) -> str:
    Years.parse_text(text)
    return text


def _years_in(years: list[int | float | str]) -> Years | None:
    return Years.parse(int(year) if isinstance(year, float) else year for year in years)


def _checked_list(years: list[int | float | str]) -> list[int | float | str]:
    _years_in(years)
    return years


WHAT_TEXT = "A question, or any words; the concepts in it are looked up."
Text = Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS), AfterValidator(clean_question)]
SearchText = Annotated[Text | None, Query(description=WHAT_TEXT, examples=[EXAMPLE_QUESTION])]
OriginalText = Annotated[
    Text | None,
    Query(description="The same, by The Pattern's name: one of the two.", examples=[EXAMPLE_QUESTION]),
]
LinksLimit = Annotated[int, Query(ge=1, le=MAX_LINKS, description="Links at most.", examples=[20])]
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

    search: Text = Field(description=WHAT_TEXT)
    limit: int = Field(DEFAULT_LINKS, ge=1, le=MAX_LINKS, description="Links at most.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description="Links to leave out first.")
    years: Annotated[list[int | FiniteFloat | str], AfterValidator(_checked_list)] = Field(
        [],
        max_length=MAX_RANGES,
        description="Only sentences of these years and ranges count; empty: all sentences. 2018.5, which "
        "pages of The Pattern send for the middle of two years, is 2018.",
    )


async def read_search(request: Request) -> Search:
    """The body as a search. NotJson, BodyLate, BodyTooLarge, BadQuestion."""
    settings: ApiSettings = request.app.state.settings
    limits = Limits(MAX_BODY_BYTES, settings.body_time_limit_s)
    return await read_model(request, Search, limits, '{"search": "..."}')


def _only_one(search: str | None, q: str | None) -> str:
    """BadParameters: none of the two is there, or both are."""
    if search is not None and q is None:
        return search
    if q is not None and search is None:
        return q
    message = "search is missing" if search is None else "search and q are both there: one of them must go"
    raise BadParameters(message, errors=[{"field": "search", "message": message}])


router = APIRouter(tags=["concept graph"])


@router.get(
    "/search",
    response_model=SearchReply,
    summary="Links of the concepts in a text",
    responses=problem_docs(BadParameters, NoShardAnswered, AllLate),
)
async def search_by_address(
    request: Request,
    search: SearchText = None,
    q: OriginalText = None,
    limit: LinksLimit = DEFAULT_LINKS,
    offset: Offset = 0,
    years: YearsText = "",
) -> Any:
    """Finds the concepts that the text mentions, and what the graph links them with."""
    explorer: Explorer = request.app.state.explorer
    text = _only_one(search, q)
    return await explorer.search(text, Years.parse_text(years), offset, limit, excluded_by(request))


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
    years, excluded = _years_in(wanted.years), excluded_by(request)
    work = explorer.search(wanted.search, years, wanted.offset, wanted.limit, excluded)
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
