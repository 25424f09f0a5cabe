"""POST /qasearch: what a question is, and the route."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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
from keymiss.api.questions.answering import Asker, Wanted
from keymiss.api.questions.record import recorded
from keymiss.api.settings import ApiSettings
from keymiss.api_shapes.base import EXAMPLE_QUESTION
from keymiss.api_shapes.questions import Answers
from keymiss.graph.events import MAX_YEAR, MIN_YEAR
from keymiss.keys import check_article
from keymiss.retrieval import CorpusFilter

MAX_RESULTS = 100
MAX_ARTICLES = 100  # as many as results; each is one more condition for the search
ArticleName = Annotated[str, Field(max_length=MAX_QUESTION_CHARACTERS), AfterValidator(check_article)]


class YearRange(BaseModel):
    """From a year to a year, both included. One of them may be left out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    first: int | None = Field(None, alias="from", ge=MIN_YEAR, le=MAX_YEAR)
    last: int | None = Field(None, alias="to", ge=MIN_YEAR, le=MAX_YEAR)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first is None and self.last is None:
            raise ValueError('must have "from" or "to"')
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ValueError('"from" must not be after "to"')
        return self


class Question(BaseModel):
    """What to answer. Other members are ignored, as clients of the original send some."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"search": EXAMPLE_QUESTION},
                {"search": EXAMPLE_QUESTION, "limit": 5, "offset": 5},
                {
                    "search": EXAMPLE_QUESTION,
                    "min_score": 0.5,
                    "years": {"from": 2019, "to": 2021},
                    "articles": ["KM0001", "KM0007"],
                },
            ]
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
    min_score: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Results whose score is below are not shown; default: KEYMISS_API_MIN_SCORE.",
    )
    years: YearRange | None = Field(
        None,
        description="Only articles of these years are searched; default: all, and those of no known year.",
    )
    articles: list[ArticleName] | None = Field(
        None,
        min_length=1,
        max_length=MAX_ARTICLES,
        description="Only these articles are searched, by their ids; default: all.",
    )

    exhaustive: bool = Field(
        False, description="Read every sentence found; else reading ends when an answer is sure."
    )

    @property
    def wanted(self) -> Wanted:
        """What the reply is to hold."""
        first, last = (self.years.first, self.years.last) if self.years else (None, None)
        only = CorpusFilter(first, last, frozenset(self.articles or ()))
        return Wanted(self.search, self.limit, self.offset, self.min_score, only, self.exhaustive)


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
    out; when none is left, `found` is false and `message` says what was read. `closest` has the sentences
    that the search liked best beside those of the answers.
    """
    metrics: ApiMetrics = request.app.state.metrics
    with recorded(metrics) as record:
        question = await read_question(request)
        asker: Asker = request.app.state.asker
        return await unless_client_leaves(request, asker.ask(question.wanted, record))
