"""/articles: add one, look at one, delete one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response, Security

from keymiss.api.articles.article_store import ArticleStore
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
from keymiss.api_shapes.articles import Accepted, ArticleReply, ArticleState, Deleted, PostedArticle
from keymiss.corpus.article_file import BadArticle, parse_article

MAX_ARTICLE_BYTES = 8 << 20  # nginx has the same; a thesis has about 1 MiB of text
MAX_SENTENCES = 500
MAX_OFFSET = 1_000_000

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
