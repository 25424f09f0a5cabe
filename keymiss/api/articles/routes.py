"""/articles: add one, look at one, delete one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response, Security
from pydantic import BaseModel, ConfigDict, Field

from keymiss.api.articles.article_store import ArticleState, ArticleStore
from keymiss.api.http.admin_key import admin_key_header, check_admin
from keymiss.api.http.body import check_json, read_body, skip_body
from keymiss.api.http.openapi import json_body, problem_docs
from keymiss.api.http.problems import (
    AllLate,
    BadParameters,
    BodyLate,
    BodyTooLarge,
    NoAdminKey,
    NoShardAnswered,
    NoSuchArticle,
    NotAllowed,
    NotJson,
    Problem,
    TooManyQuestions,
    UnusableArticle,
)
from keymiss.api.settings import ApiSettings
from keymiss.corpus.loading import BadArticle, parse_article

MAX_ARTICLE_BYTES = 8 << 20  # nginx has the same; a thesis has about 1 MiB of text
MAX_SENTENCES = 500
MAX_OFFSET = 1_000_000

EXAMPLE_ARTICLE: dict[str, Any] = {
    "paper_id": "KM0001",
    "metadata": {"title": "How respiratory viruses move", "year": 2020, "month": 3, "day": 14},
    "body_text": [
        {"text": "The virus is passed to adults by infected children. In them it is mild."},
        {"text": "Masks and open windows help."},
    ],
}


class Metadata(BaseModel):
    """What is known of an article."""

    title: str = ""
    year: int | str | None = Field(None, description="At most four digits, as month and day.")
    month: int | str | None = None
    day: int | str | None = None


class Paragraph(BaseModel):
    """One paragraph."""

    text: str = Field(description="At most 1,000,000 characters.")


class PostedArticle(BaseModel):
    """An article in the CORD-19 format, for OpenAPI; keymiss.corpus.loading reads it. Others are ignored."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ARTICLE]})

    paper_id: str = Field(description="The article's name: no blanks, no underscore, no brace.")
    metadata: Metadata
    body_text: list[Paragraph]


class Accepted(BaseModel):
    """The article is stored; its sentences follow."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "article": "KM0001",
                    "sentences": None,
                    "state": "accepted",
                    "replaced": False,
                    "notes": [],
                    "href": "/articles/KM0001",
                }
            ]
        }
    )

    article: str
    sentences: int | None = Field(description="Not known yet.")
    state: ArticleState
    replaced: bool = Field(description="There was an article of that name; it is this one now.")
    notes: list[str] = Field(description="What was repaired in the text.")
    href: str = Field(description="Where to see how far it is; also in the header Location.")


class NamedConcept(BaseModel):
    """A concept in a sentence."""

    id: str
    name: str = Field(description="The id, when the concept table does not have it.")


class Sentence(BaseModel):
    """One sentence of the article."""

    idx: int
    sentence: str
    sentencekey: str = Field(description="<article>:{tag}:<idx>")
    concepts: list[NamedConcept]


class ArticleReply(BaseModel):
    """An article and a page of its sentences."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "article": "KM0001",
                    "title": "How respiratory viruses move",
                    "year": 2020,
                    "month": 3,
                    "day": 14,
                    "source": "KM0001.json",
                    "shard": "6fd",
                    "state": "processed",
                    "language": "en",
                    "skipped": None,
                    "sentences": [
                        {
                            "idx": 0,
                            "sentence": "The virus is passed to adults by infected children.",
                            "sentencekey": "KM0001:{6fd}:0",
                            "concepts": [{"id": "KC0140", "name": "adult"}],
                        }
                    ],
                    "total": 3,
                    "limit": 1,
                    "offset": 0,
                }
            ]
        }
    )

    article: str
    title: str | None
    year: int | None
    month: int | None
    day: int | None
    source: str | None = Field(description="The file that it was loaded from; null when it came over HTTP.")
    shard: str = Field(description="The hash tag that names the shard.")
    state: ArticleState = Field(
        description="accepted: not split into sentences yet; processed; skipped: `skipped` says why; "
        "removing: its text was deleted, the rest follows."
    )
    language: str | None
    skipped: str | None = Field(description="Why it was not split into sentences.")
    sentences: list[Sentence]
    total: int = Field(description="Sentences that there are.")
    limit: int
    offset: int


class Deleted(BaseModel):
    """The article's text is gone; the rest follows."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"article": "KM0001", "state": "deleted"}]})

    article: str
    state: ArticleState


ArticleName = Annotated[str, Path(description="The article's name.", examples=["KM0001"])]

SHAPES = (PostedArticle, Accepted, ArticleReply)
router = APIRouter(tags=["articles"])
SHARD_PROBLEMS: tuple[type[Problem], ...] = (TooManyQuestions, NoShardAnswered, AllLate)


@router.post(
    "/articles",
    status_code=202,
    response_model=Accepted,
    summary="Add or replace an article",
    dependencies=[Security(admin_key_header)],
    responses=problem_docs(
        NotJson, NoAdminKey, NotAllowed, BodyLate, BodyTooLarge, UnusableArticle, *SHARD_PROBLEMS
    ),
    openapi_extra=json_body(PostedArticle),
)
async def add_article(request: Request, response: Response) -> Any:
    """Stores the article. Its sentences, and what is made from them, follow within seconds."""
    settings: ApiSettings = request.app.state.settings
    try:
        check_admin(request)
    except Problem:
        await skip_body(request, MAX_ARTICLE_BYTES, settings.body_time_limit_s)
        raise
    body = await read_body(request, MAX_ARTICLE_BYTES, settings.article_time_limit_s)
    check_json(body, '{"paper_id": "...", "metadata": {"title": "..."}, "body_text": [{"text": "..."}]}')
    try:
        article = await asyncio.to_thread(parse_article, body)
    except BadArticle as error:
        raise UnusableArticle(str(error)) from None
    store: ArticleStore = request.app.state.article_store
    replaced = await store.put(article)
    href = f"/articles/{quote(article.name, safe='')}"
    response.headers["Location"] = href
    return {
        "article": article.name,
        "sentences": None,
        "state": ArticleState.ACCEPTED,
        "replaced": replaced,
        "notes": article.notes,
        "href": href,
    }


@router.get(
    "/articles/{article:path}",
    response_model=ArticleReply,
    summary="An article and its sentences",
    responses=problem_docs(NoSuchArticle, BadParameters, *SHARD_PROBLEMS),
)
async def get_article(
    request: Request,
    article: ArticleName,
    limit: Annotated[
        int, Query(ge=1, le=MAX_SENTENCES, description="Sentences at most.", examples=[100])
    ] = 100,
    offset: Annotated[
        int, Query(ge=0, le=MAX_OFFSET, description="Sentences to leave out at the beginning.", examples=[0])
    ] = 0,
) -> Any:
    """What is stored of an article, how far it is, and its sentences in order, each with its concepts."""
    store: ArticleStore = request.app.state.article_store
    return await store.read(article, limit, offset)


@router.delete(
    "/articles/{article:path}",
    status_code=202,
    response_model=Deleted,
    summary="Delete an article",
    dependencies=[Security(admin_key_header)],
    responses=problem_docs(NoAdminKey, NotAllowed, NoSuchArticle, BadParameters, *SHARD_PROBLEMS),
)
async def delete_article(request: Request, article: ArticleName) -> Any:
    """Deletes the article; its sentences, tensors, concepts, vectors, edges and answers follow."""
    check_admin(request)
    store: ArticleStore = request.app.state.article_store
    await store.delete(article)
    return {"article": article, "state": ArticleState.DELETED}
