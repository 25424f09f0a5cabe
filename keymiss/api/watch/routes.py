"""GET /watch/dashboards...: the committed Grafana dashboards, and their panels' data from Prometheus."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from keymiss.api.http.openapi import problem_docs
from keymiss.api.http.problems import (
    BadParameters,
    NoPrometheus,
    NoSuchDashboard,
    NoSuchPanel,
    PrometheusAway,
    PrometheusFailed,
    PrometheusLate,
    TooManyPanels,
)
from keymiss.api.watch.panels import Watch
from keymiss.api_shapes.watch import Dashboards, GrafanaDashboard, PanelData

MIN_RANGE_S, MAX_RANGE_S, DEFAULT_RANGE_S = 60, 7 * 24 * 3600, 900

Uid = Annotated[
    str,
    Path(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="A dashboard's uid.", examples=["keymiss-pattern"]),
]
PanelId = Annotated[int, Path(ge=0, le=1_000_000, description="A panel's id.", examples=[1])]
RangeS = Annotated[
    int,
    Query(ge=MIN_RANGE_S, le=MAX_RANGE_S, description="The last so many seconds.", examples=[900]),
]

router = APIRouter(prefix="/watch/dashboards", tags=["watch"])


@router.get("", response_model=Dashboards, summary="The dashboards")
async def list_dashboards(request: Request) -> Any:
    """The dashboards of grafana/dashboards, which the page /watch draws too."""
    watch: Watch = request.app.state.watch
    names = [{"uid": one.uid, "title": one.title} for one in watch.dashboards.values()]
    return {"dashboards": names, "measured": watch.prometheus is not None}


@router.get(
    "/{uid}",
    response_model=GrafanaDashboard,
    summary="A dashboard as Grafana reads it",
    responses=problem_docs(NoSuchDashboard, BadParameters),
)
async def one_dashboard(request: Request, uid: Uid) -> Any:
    """The committed JSON, unchanged."""
    watch: Watch = request.app.state.watch
    return JSONResponse(watch.dashboard(uid).raw)


@router.get(
    "/{uid}/panels/{panel_id}",
    response_model=PanelData,
    summary="A panel's data",
    responses=problem_docs(
        NoSuchDashboard,
        NoSuchPanel,
        BadParameters,
        TooManyPanels,
        PrometheusFailed,
        NoPrometheus,
        PrometheusAway,
        PrometheusLate,
    ),
)
async def panel_data(request: Request, uid: Uid, panel_id: PanelId, range_s: RangeS = DEFAULT_RANGE_S) -> Any:
    """Runs the panel's own queries on Prometheus; at most about 240 points a series."""
    watch: Watch = request.app.state.watch
    return JSONResponse(await watch.panel(uid, panel_id, range_s))
