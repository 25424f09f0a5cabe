"""The dashboards as they are committed (grafana/dashboards/*.json): panels and their queries.

Grafana reads the files itself; this is for who else shows or checks them: the page /watch and the tests.
The files are made by `python -m grafana.make_dashboards`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keymiss.resources import PROJECT

DASHBOARDS = PROJECT / "grafana" / "dashboards"
ORDER = ("the-pattern", "gears-and-models", "redis-cluster")
"""The files' names, as they are shown; others come after them."""
SCRAPE_S = 5.0
"""scrape_interval of prometheus/prometheus.yml; the data source tells Grafana the same (timeInterval)."""


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel. legend is Grafana's: {{label}} stands for a label's value, "" for all labels."""

    ref: str
    expr: str
    legend: str
    instant: bool


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a panel is: x and w in 24ths of the width, y and h in Grafana's rows (30 pixels and a gap)."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """From value on (None: from the lowest) the panel takes this colour, a name of Grafana's or CSS."""

    value: float | None
    color: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; type is timeseries, stat, gauge, bargauge or table. raw is the panel's own JSON."""

    id: int
    title: str
    type: str
    unit: str
    description: str
    grid: Grid
    thresholds: tuple[Threshold, ...]
    targets: tuple[Target, ...]
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard, its panels in the order of the file. raw is the file's JSON."""

    uid: str
    title: str
    description: str
    panels: tuple[Panel, ...]
    raw: dict[str, Any]


def load_dashboards(folder: Path = DASHBOARDS) -> dict[str, Dashboard]:
    """uid -> dashboard, in ORDER.

    Raises OSError when a file cannot be read, ValueError or KeyError when it is no dashboard of ours.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.json"))}
    names = [name for name in ORDER if name in files] + [name for name in files if name not in ORDER]
    found = (parse_dashboard(json.loads(files[name].read_text())) for name in names)
    return {dashboard.uid: dashboard for dashboard in found}


def parse_dashboard(raw: dict[str, Any]) -> Dashboard:
    """A dashboard from its JSON. Raises KeyError when a part of it that is used is missing."""
    return Dashboard(
        uid=raw["uid"],
        title=raw["title"],
        description=raw.get("description", ""),
        panels=tuple(_panel(panel) for panel in raw["panels"]),
        raw=raw,
    )


def _panel(raw: dict[str, Any]) -> Panel:
    defaults = raw["fieldConfig"]["defaults"]
    grid = raw["gridPos"]
    return Panel(
        id=raw["id"],
        title=raw["title"],
        type=raw["type"],
        unit=defaults["unit"],
        description=raw["description"],
        grid=Grid(x=grid.get("x", 0), y=grid.get("y", 0), w=grid["w"], h=grid["h"]),
        thresholds=tuple(
            Threshold(step.get("value"), step["color"])
            for step in defaults.get("thresholds", {}).get("steps", ())
        ),
        targets=tuple(
            Target(
                ref=target["refId"],
                expr=target["expr"],
                legend=target.get("legendFormat", ""),
                instant=bool(target.get("instant", False)),
            )
            for target in raw["targets"]
        ),
        raw=raw,
    )


def expand(expr: str, step_s: float, range_s: float) -> str:
    """expr with Grafana's variables replaced, for a graph of range_s seconds with a point every step_s.

    $__rate_interval is what Grafana takes: the step and one scrape, at least four scrapes, so that a rate
    always has two samples, also after a failed scrape.
    """
    rate_s = max(step_s + SCRAPE_S, 4 * SCRAPE_S)
    for name, seconds in (("$__rate_interval", rate_s), ("$__interval", step_s), ("$__range", range_s)):
        expr = expr.replace(name, _duration(seconds))
    return expr


def _duration(seconds: float) -> str:
    """Prometheus's form, whole milliseconds: 20s, 7500ms."""
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"
