"""POST /qasearch: what a question is, and the route."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from keymiss.api.http.body import Limits, read_model
from keymiss.api.http.disconnect import unless_client_leaves
from keymiss.api.http.openapi import json_body, problem_docs
from keymiss.api.http.problems import (
    AllLate,
    BadQuestion,
    BodyLate,
    BodyTooLarge,
    NoShardAnswered,
    NotJson,
    TooManyQuestions,
)
from keymiss.api.http.question_text import (
    MAX_BODY_BYTES,
    MAX_OFFSET,
    MAX_QUESTION_CHARACTERS,
    clean_question,
)
from keymiss.api.metrics import ApiMetrics
from keymiss.api.questions.answering import Asker
from keymiss.api.questions.record import recorded
from keymiss.api.settings import ApiSettings
from keymiss.api_shapes.base import EXAMPLE_QUESTION
from keymiss.api_shapes.questions import Answers

MAX_RESULTS = 100


class Question(BaseModel):
    """What to answer. Other members are ignored, as clients of the original send some."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        json_schema_extra={
            "examples": [{"search": EXAMPLE_QUESTION}, {"search": EXAMPLE_QUESTION, "limit": 5, "offset": 5}]
        },
    )

    search: Annotated[
        str,
        Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS, description="The question, in English."),
        AfterValidator(clean_question),
    ]
    limit: int | None = Field(
        None, ge=1, le=MAX_RESULTS, description="Results at most; default: KEYMISS_API_RESULTS."
    )
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description="Results to leave out at the beginning.")


async def read_question(request: Request) -> Question:
    """The body as a question. NotJson, BodyLate, BodyTooLarge, BadQuestion."""
    settings: ApiSettings = request.app.state.settings
    limits = Limits(MAX_BODY_BYTES, settings.body_time_limit_s)
    return await read_model(request, Question, limits, '{"search": "..."}')


SHAPES = (Question, Answers)
router = APIRouter()


@router.post(
    "/qasearch",
    response_model=Answers,
    summary="Ask a question",
    responses=problem_docs(
        NotJson, BodyLate, BodyTooLarge, BadQuestion, TooManyQuestions, NoShardAnswered, AllLate
    ),
    openapi_extra=json_body(Question),
)
async def qasearch(request: Request) -> Any:
    """Finds candidate sentences on every shard, lets the shards answer, and merges by score.

    Sentences that give the same answer are one result. Answers that the reader is not sure enough of are left
    out; when none is left, `found` is false and `message` says what was read.
    """
    metrics: ApiMetrics = request.app.state.metrics
    with recorded(metrics) as record:
        question = await read_question(request)
        asker: Asker = request.app.state.asker
        work = asker.ask(question.search, record, question.limit, question.offset)
        return await unless_client_leaves(request, work)
