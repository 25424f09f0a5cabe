"""/exclude: a client leaves concepts out of its own searches."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from keymiss.api.graph.excluded import excluded_by, remember
from keymiss.api.http.body import Limits, read_model
from keymiss.api.http.cross_origin import refuse_other_sites
from keymiss.api.http.openapi import json_body, problem_docs
from keymiss.api.http.problems import (
    BadParameters,
    BadQuestion,
    BodyLate,
    BodyTooLarge,
    NotAllowed,
    NotJson,
    TooManyExcluded,
)
from keymiss.api.http.question_text import MAX_BODY_BYTES
from keymiss.api.settings import ApiSettings
from keymiss.api_shapes.graph import Excluded
from keymiss.graph.events import CONCEPT_ID_PATTERN

ConceptId = Annotated[
    str, Query(pattern=f"^{CONCEPT_ID_PATTERN}$", description="A concept's id.", examples=["KC0140"])
]


class Exclusion(BaseModel):
    """What to leave out. Other members are ignored, as by /search."""

    model_config = ConfigDict(strict=True, extra="ignore", json_schema_extra={"examples": [{"id": "KC0140"}]})

    id: str = Field(pattern=f"^{CONCEPT_ID_PATTERN}$", description="A concept's id.")


router = APIRouter(tags=["concept graph"])


@router.get(
    "/exclude",
    response_model=Excluded,
    summary="Leave a concept out",
    responses=problem_docs(NotAllowed, TooManyExcluded, BadParameters),
)
async def exclude_by_address(request: Request, response: Response, id: ConceptId) -> Any:
    """From the next /search of this client on: a cookie has the concepts, until the browser is closed."""
    return _exclude(request, response, id)


@router.post(
    "/exclude",
    response_model=Excluded,
    summary="Leave a concept out (POST)",
    responses=problem_docs(NotJson, NotAllowed, BodyLate, TooManyExcluded, BodyTooLarge, BadQuestion),
    openapi_extra=json_body(Exclusion),
)
async def exclude_by_body(request: Request, response: Response) -> Any:
    """As GET /exclude."""
    settings: ApiSettings = request.app.state.settings
    limits = Limits(MAX_BODY_BYTES, settings.body_time_limit_s)
    wanted = await read_model(request, Exclusion, limits, '{"id": "..."}')
    return _exclude(request, response, wanted.id)


@router.delete(
    "/exclude",
    response_model=Excluded,
    summary="Leave no concept out",
    responses=problem_docs(NotAllowed),
)
async def exclude_nothing(request: Request, response: Response) -> Any:
    """All concepts are shown again."""
    refuse_other_sites(request)
    remember(request, response, ())
    return {"message": "nothing is left out", "excluded": []}


def _exclude(request: Request, response: Response, concept: str) -> dict[str, Any]:
    refuse_other_sites(request)
    excluded = tuple(dict.fromkeys((*excluded_by(request), concept)))
    remember(request, response, excluded)
    return {"message": f"{concept} is left out", "excluded": excluded}
