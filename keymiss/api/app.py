"""Routes, request and reply shapes, OpenAPI. No CORS headers: only pages of the same origin may ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from importlib import metadata
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from keymiss.api import problems
from keymiss.api.ask import Asker
from keymiss.api.problems import BadQuestion, BodyTooLarge, NotJson
from keymiss.api.ready import Readiness
from keymiss.api.settings import ApiSettings
from keymiss.api.shards import Shard, ShardMap
from keymiss.retrieval import Retrieval

MAX_BODY_BYTES = 64 * 1024
MAX_QUESTION_CHARACTERS = 512
EXAMPLE_QUESTION = "Who performs viral transmission among adults"

T = TypeVar("T")


def clean_question(text: str) -> str:
    """White space at the ends goes, each run inside becomes one space: the cache key is the same then.

    ValueError: nothing is left, or a NUL is in it.
    """
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    text = " ".join(text.split())
    if not text:
        raise ValueError("must not be blank")
    return text


class Question(BaseModel):
    """What to answer. Members other than ``search`` are ignored, as clients of the original send some."""

    model_config = ConfigDict(
        strict=True, extra="ignore", json_schema_extra={"examples": [{"search": EXAMPLE_QUESTION}]}
    )

    search: Annotated[
        str,
        Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS, description="The question, in English."),
        AfterValidator(clean_question),
    ]


class Result(BaseModel):
    """One answer, cut from one sentence."""

    answer: str
    sentence: str
    sentencekey: str = Field(description="<article>:{tag}:<idx>")
    title: str | None = Field(description="The article's title; null when it is not known.")
    score: float = Field(description="What the answers are sorted by, 0 to 1: the reader's score and BM25.")
    reader_score: float = Field(description="The reader's score of this sentence alone, 0 to 1.")
    shard: str = Field(description="The hash tag that names the shard.")
    bm25: float = Field(description="The score of retrieval, comparable within one shard only.")
    took_ms: float = Field(description="Milliseconds until this answer was there.")


class SentenceCoverage(BaseModel):
    """Sentences; asked = answered + late + failed."""

    asked: int
    answered: int
    late: int
    failed: int


class ShardCoverage(BaseModel):
    """Shards by name; one is in each list that fits one of its sentences."""

    asked: list[str]
    answered: list[str]
    late: list[str]
    failed: list[str]
    unindexed: list[str] = Field(description="Not asked: their sentences have not been read yet.")


class Coverage(BaseModel):
    """How much of what was asked was answered."""

    sentences: SentenceCoverage
    shards: ShardCoverage


EXAMPLE_REPLY: dict[str, Any] = {
    "links": [],
    "results": [
        {
            "answer": "infected children",
            "sentence": "In most households the virus is passed to adults by infected children.",
            "sentencekey": "KM0001:{6fd}:33",
            "title": "How respiratory viruses move through a household",
            "score": 0.95,
            "reader_score": 0.83,
            "shard": "6fd",
            "bm25": 4.2107,
            "took_ms": 18.4,
        }
    ],
    "score": 0.95,
    "coverage": {
        "sentences": {"asked": 20, "answered": 15, "late": 5, "failed": 0},
        "shards": {
            "asked": ["6fd", "1x7", "a0", "b3"],
            "answered": ["6fd", "1x7", "a0"],
            "late": ["b3"],
            "failed": [],
            "unindexed": [],
        },
    },
    "took_ms": 41.9,
}


class Reply(BaseModel):
    """Answers, best first. ``links`` is kept for clients of the original and is empty."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_REPLY]})

    links: list[Any]
    results: list[Result]
    score: float | None = Field(description="The best answer's score; null without an answer.")
    coverage: Coverage
    took_ms: float


class ProblemDetail(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def _problem_docs(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/ProblemDetail"}
    titles = {status: title for status, title in problems.TABLE.values()}
    return {
        status: {"description": titles[status], "content": {problems.MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


async def read_question(request: Request) -> str:
    """The body as a question. The content type is not looked at. NotJson, BodyTooLarge, BadQuestion."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"the body may have {MAX_BODY_BYTES} bytes at most")
    try:
        from_json(bytes(body), allow_inf_nan=False)
    except ValueError as error:  # its text says where the JSON is wrong
        raise NotJson(f'the body must be JSON like {{"search": "..."}}: {error}') from None
    try:
        return Question.model_validate_json(bytes(body)).search
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    errors = []
    for fault in faults:
        field = ".".join(map(str, fault["loc"])) or "body"
        errors.append({"field": field, "message": fault["msg"].removeprefix("Value error, ")})
    raise BadQuestion("; ".join(f"{e['field']}: {e['message']}" for e in errors), errors=errors)


async def unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """Awaits ``work``; a client that closes its connection cancels it, down to the GETs on the shards."""
    task = asyncio.ensure_future(work)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await task
    except asyncio.CancelledError:
        if watcher.done() and not watcher.cancelled():
            raise ClientLeft from None
        raise
    finally:
        watcher.cancel()
        task.cancel()


class ClientLeft(Exception):
    """Nobody reads the reply any more."""


async def on_client_left(_request: Request, _error: Exception) -> Any:
    """Goes nowhere; 499 is what the access log shows, as nginx's does."""
    return problems.problem_response(499, "Client left", "The client closed its connection.")


router = APIRouter()


@router.post(
    "/qasearch",
    response_model=Reply,
    summary="Ask a question",
    responses=_problem_docs(400, 413, 422, 429, 503, 504),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
        }
    },
)
async def qasearch(request: Request) -> Any:
    """Finds candidate sentences on every shard, lets the shards answer, and merges by score."""
    question = await read_question(request)
    asker: Asker = request.app.state.asker
    return await unless_client_leaves(request, asker.ask(question))


@router.get("/livez", summary="The process runs", tags=["health"])
async def livez() -> dict[str, str]:
    """Looks at nothing else."""
    return {"status": "live"}


@router.get("/readyz", summary="Every shard's model answers", tags=["health"], responses=_problem_docs(503))
@router.get("/healthz", summary="Alias of /readyz", tags=["health"], responses=_problem_docs(503))
async def readyz(request: Request) -> dict[str, Any]:
    """Runs the model on every master; 503 names what is missing."""
    readiness: Readiness = request.app.state.readiness
    return await readiness.check()


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: ApiSettings = app.state.settings
    shards, retrieval = ShardMap(settings), Retrieval(settings.rescan_s)

    async def follow(now: tuple[Shard, ...]) -> None:
        await retrieval.follow({shard.tag: shard.node for shard in now})

    shards.on_change = follow
    app.state.asker = Asker(settings, shards, retrieval)
    app.state.readiness = Readiness(settings, shards, retrieval)
    await shards.start()
    try:
        yield
    finally:
        await shards.stop()
        await retrieval.stop()


def _version() -> str:
    try:
        return metadata.version("keymiss")
    except metadata.PackageNotFoundError:
        return "0"


def create_app(settings: ApiSettings) -> FastAPI:
    """The application. It starts without a cluster too, and is not ready until there is one."""
    app = FastAPI(
        title="Keymiss",
        version=_version(),
        summary="Questions answered by the shards of a Redis Cluster.",
        lifespan=_lifespan,
        redoc_url=None,
    )
    app.state.settings = settings
    app.include_router(router)
    problems.install(app)
    app.add_exception_handler(ClientLeft, on_client_left)
    app.add_exception_handler(ClientDisconnect, on_client_left)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Adds to OpenAPI the shapes that are read or made by hand."""
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        document = generated()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (Question, ProblemDetail):
            schemas.setdefault(model.__name__, model.model_json_schema())
        return document

    app.openapi = openapi  # type: ignore[method-assign]
