"""The application: its routes, its start, its end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from keymiss import __version__
from keymiss.api.articles import routes as article_routes
from keymiss.api.articles.article_store import ArticleStore
from keymiss.api.articles.titles import Articles
from keymiss.api.figures import routes as figure_routes
from keymiss.api.figures.shard_figures import ShardFigures
from keymiss.api.graph import excluding_routes, original_edge
from keymiss.api.graph import routes as graph_routes
from keymiss.api.graph.concept_names import Concepts
from keymiss.api.graph.replies import Explorer
from keymiss.api.http import docs_page, problems
from keymiss.api.http.disconnect import ClientLeft, on_client_left
from keymiss.api.http.openapi import describe, problem_docs
from keymiss.api.http.problems import NotReady
from keymiss.api.http.tracing import TracedApp
from keymiss.api.metrics import ApiMetrics, IndexFigures
from keymiss.api.questions import routes as question_routes
from keymiss.api.questions.answering import Asker
from keymiss.api.questions.linked_concepts import GraphKnowledge
from keymiss.api.readiness import Readiness
from keymiss.api.settings import ApiSettings
from keymiss.api.watch import routes as watch_routes
from keymiss.api.watch.panels import Watch
from keymiss.api_shapes.health import Live, Ready
from keymiss.cluster.shard_map import ShardMap
from keymiss.cluster.topology import Shard
from keymiss.graph.graph_url import graph_url
from keymiss.graph.reader_choice import choose_reader
from keymiss.retrieval import Mix, Retrieval

router = APIRouter()
ROUTERS = (
    question_routes.router,
    article_routes.router,
    original_edge.router,  # before /edge/<source>:<target>, which takes its addresses too
    graph_routes.router,
    excluding_routes.router,
)


@router.get("/livez", response_model=Live, summary="The process runs", tags=["health"])
async def livez() -> dict[str, str]:
    """Looks at nothing else."""
    return {"status": "live"}


@router.get(
    "/readyz",
    response_model=Ready,
    summary="Every shard's model answers",
    tags=["health"],
    responses=problem_docs(NotReady),
)
@router.get(
    "/healthz",
    response_model=Ready,
    summary="Alias of /readyz",
    tags=["health"],
    responses=problem_docs(NotReady),
)
async def readyz(request: Request) -> dict[str, Any]:
    """Runs the model on every master; 503 names what is missing."""
    readiness: Readiness = request.app.state.readiness
    return await readiness.check()


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: ApiSettings = app.state.settings
    shards = ShardMap(settings)
    retrieval = Retrieval(settings.rescan_s, mix_of(settings), settings.credentials)

    metrics: ApiMetrics = app.state.metrics
    metrics.registry.register(IndexFigures(retrieval))

    async def follow(now: tuple[Shard, ...]) -> None:
        metrics.know_shards(shard.tag for shard in now)
        await retrieval.follow({shard.tag: shard.master for shard in now})

    shards.on_change = follow
    graph = choose_reader(graph_url(), shards, settings.time_limit_s)
    concepts = Concepts(shards, settings.topology_poll_s)
    articles = Articles(shards, settings.title_cache_s)
    knowledge = GraphKnowledge(concepts, graph, settings.graph_time_limit_s)
    app.state.asker = asker = Asker(settings, shards, retrieval, articles, knowledge)
    metrics.questions_limit.set_function(lambda: asker.most_at_once)
    metrics.silent_masters.set_function(lambda: shards.silent)
    app.state.article_store = ArticleStore(shards, settings.time_limit_s, concepts.name)
    app.state.explorer = Explorer(shards, graph, concepts, articles, settings.time_limit_s)
    app.state.readiness = Readiness(settings, shards, retrieval)
    app.state.shard_figures = figures = ShardFigures(settings)
    watch = Watch.from_settings(settings)
    app.state.watch = watch
    await shards.start()
    concepts.start()
    try:
        yield
    finally:
        await watch.close()
        await figures.stop()
        await concepts.stop()
        await graph.close()
        await shards.stop()
        await retrieval.stop()


def mix_of(settings: ApiSettings) -> Mix:
    """How retrieval puts its signals together."""
    return Mix(settings.bm25_weight, settings.vector_weight, settings.graph_weight, settings.pool)


def expected_requests() -> Iterator[tuple[str, str, int]]:
    """Route, method and code of every reply that the OpenAPI document promises."""
    for each in (*ROUTERS, router):
        for route in each.routes:
            if isinstance(route, APIRoute):
                for code in (route.status_code or 200, *map(int, route.responses)):
                    yield from ((route.path_format, method, code) for method in route.methods or ())


def create_app(settings: ApiSettings) -> FastAPI:
    """The application. It starts without a cluster too, and is not ready until there is one."""
    app = TracedApp(
        title="Keymiss",
        version=__version__,
        summary="Questions answered by the shards of a Redis Cluster.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.metrics = app.state.metrics = ApiMetrics()
    app.state.settings = settings
    app.cors_origins = settings.cors_origins
    app.metrics.know_requests(expected_requests())
    for each in ROUTERS:
        app.include_router(each)
    app.include_router(watch_routes.router)
    app.include_router(figure_routes.router)
    app.include_router(docs_page.router)
    app.include_router(router)
    problems.install(app)
    app.add_exception_handler(ClientLeft, on_client_left)
    app.add_exception_handler(ClientDisconnect, on_client_left)
    describe(
        app, *question_routes.SHAPES, graph_routes.Search, excluding_routes.Exclusion, *article_routes.SHAPES
    )
    return app
