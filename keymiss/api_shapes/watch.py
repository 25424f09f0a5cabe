"""What `/watch` gives: dashboards, and what their panels show."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from keymiss.api_shapes.base import Reply, Shape

EXAMPLE_LIST: dict[str, Any] = {
    "dashboards": [{"uid": "keymiss-pattern", "title": "The Pattern"}],
    "measured": True,
}
EXAMPLE_DASHBOARD: dict[str, Any] = {
    "uid": "keymiss-pattern",
    "title": "The Pattern",
    "panels": [{"id": 1, "type": "timeseries", "title": "Questions a second"}],
}
EXAMPLE_PANEL: dict[str, Any] = {
    "series": [
        {
            "ref": "A",
            "legend": "answered",
            "labels": {"outcome": "answered"},
            "points": [[1760000000, 3.5], [1760000005, None]],
        }
    ],
    "step_s": 5,
    "range_s": 900,
}


class DashboardName(Shape):
    """A dashboard."""

    uid: str
    title: str


class Dashboards(Reply):
    """The dashboards that there are."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_LIST]})

    dashboards: tuple[DashboardName, ...]
    measured: bool = Field(description="Whether this service knows a Prometheus to ask.")


class GrafanaDashboard(Reply):
    """A dashboard in Grafana's own JSON, with more members than these."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [EXAMPLE_DASHBOARD]})

    uid: str
    title: str
    panels: tuple[dict[str, Any], ...]


class PanelSeries(Shape):
    """One line of a panel."""

    ref: str = Field(description="The query it comes from.")
    legend: str = Field(description="Its name, as Grafana writes it.")
    labels: dict[str, str]
    points: tuple[tuple[float, float | None], ...] = Field(
        description="Seconds since 1970 and the value; null where nothing was measured."
    )


class PanelData(Reply):
    """A panel's data."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_PANEL]})

    series: tuple[PanelSeries, ...] = Field(description="Empty when nothing was measured.")
    step_s: int = Field(description="Seconds between two points; instant queries have one point.")
    range_s: int
