"""The words the dashboards are written in: one function for each kind of panel, and the grid.

Every panel has a title, what it shows (in the (i) of its corner), a unit, and queries to the one data
source. Colours follow one rule: green is well, orange is look, red is act.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    gauge,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    FieldTextAlignment,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TableAutoCellOptions,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="keymiss-prometheus")
"""As grafana/provisioning/datasources/prometheus.yml names it."""
WIDTH = 24
TAG = "keymiss"
RATE = "$__rate_interval"
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"

Steps = Sequence[tuple[float | None, str]]
"""(from this value on, colour); the first has None."""
WELL_IS_HIGH_SHARE: Steps = ((None, RED), (0.2, ORANGE), (0.5, GREEN))


@dataclass(frozen=True, slots=True)
class Query:
    """A query and how its series are called ({{label}} is a label's value)."""

    expr: str
    legend: str = ""


@dataclass(slots=True)
class Grid:
    """Gives places from left to right, a new row when one is full; all panels of a row are of one height."""

    x: int = 0
    y: int = 0
    height: int = field(default=0)

    def place(self, width: int, height: int) -> GridPos:
        """The next place. ValueError when the row's height differs or it would be over-full."""
        if self.x and height != self.height:
            raise ValueError(f"a panel of height {height} in a row of height {self.height}")
        if self.x + width > WIDTH:
            raise ValueError(f"a row of {self.x + width} columns")
        place = GridPos(h=height, w=width, x=self.x, y=self.y)
        self.x, self.height = self.x + width, height
        if self.x == WIDTH:
            self.x, self.y = 0, self.y + height
        return place


class Page:
    """One dashboard under construction: every method adds a panel at the next place of the grid."""

    def __init__(self, uid: str, title: str, description: str) -> None:
        self.grid = Grid()
        self.count = 0
        self.builder = (
            dashboard.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags([TAG])
            .readonly()
            .refresh("5s")
            .time("now-30m", "now")
            .timezone("browser")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(
                dashboard.DashboardLink("Keymiss")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .keep_time(True)
            )
        )

    def build(self) -> Dashboard:
        """The dashboard. ValueError when the last row is not full."""
        if self.grid.x:
            raise ValueError(f"the last row has {self.grid.x} of {WIDTH} columns")
        return self.builder.build()

    def _add(
        self, panel: Any, title: str, about: str, unit: str, queries: Sequence[Query], at: GridPos
    ) -> None:
        self.count += 1
        panel.id(self.count).title(title).description(about).unit(unit).grid_pos(at).datasource(DATASOURCE)
        for ref, query in zip("ABCDEFGH", queries, strict=False):
            panel.with_target(self._target(ref, query, panel))
        self.builder.with_panel(panel)

    def _target(self, ref: str, query: Query, panel: Any) -> prometheus.Dataquery:
        target = prometheus.Dataquery().ref_id(ref).expr(query.expr).datasource(DATASOURCE)
        target.legend_format(query.legend)
        if isinstance(panel, table.Panel):
            return target.instant().format(PromQueryFormat.TABLE)
        if isinstance(panel, bargauge.Panel):
            return target.instant()
        return target.range()

    def graph(
        self,
        title: str,
        about: str,
        unit: str,
        *queries: Query,
        width: int = 8,
        height: int = 8,
        stacked: bool = False,
        least: float | None = 0,
    ) -> None:
        """Lines over time; stacked: areas on each other. least: where the axis starts at the latest."""
        panel = (
            timeseries.Panel()
            .line_width(1)
            .fill_opacity(40 if stacked else 8)
            .show_points(VisibilityMode.NEVER)
            .stacking(common.StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
            .thresholds(_steps(((None, GREEN),)))
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        )
        if least is not None:
            panel.axis_soft_min(least)
        self._add(panel, title, about, unit, queries, self.grid.place(width, height))

    def number(
        self,
        title: str,
        about: str,
        unit: str,
        query: Query,
        steps: Steps,
        width: int = 4,
        height: int = 4,
        decimals: float | None = None,
    ) -> None:
        """One number in large type, coloured by its steps, with its course behind it."""
        panel = (
            stat.Panel()
            .graph_mode(BigValueGraphMode.AREA)
            .color_mode(BigValueColorMode.VALUE)
            .reduce_options(_last())
            .thresholds(_steps(steps))
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
            .no_value("none yet")
        )
        if decimals is not None:
            panel.decimals(decimals)
        self._add(panel, title, about, unit, [query], self.grid.place(width, height))

    def dial(
        self,
        title: str,
        about: str,
        unit: str,
        query: Query,
        steps: Steps,
        most: float,
        width: int = 4,
        height: int = 4,
    ) -> None:
        """One number on an arc from 0 to most."""
        panel = (
            gauge.Panel()
            .show_threshold_markers(True)
            .reduce_options(_last())
            .min(0)
            .max(most)
            .thresholds(_steps(steps))
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
            .no_value("none yet")
        )
        self._add(panel, title, about, unit, [query], self.grid.place(width, height))

    def bars(
        self, title: str, about: str, unit: str, query: Query, steps: Steps, width: int = 8, height: int = 8
    ) -> None:
        """One bar for each series, as it is now."""
        panel = (
            bargauge.Panel()
            .orientation(VizOrientation.HORIZONTAL)
            .reduce_options(_last())
            .min(0)
            .thresholds(_steps(steps))
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
            .no_value("none yet")
        )
        self._add(panel, title, about, unit, [query], self.grid.place(width, height))

    def rows(
        self,
        title: str,
        about: str,
        unit: str,
        query: Query,
        value: str,
        words: dict[str, tuple[str, str]] | None = None,
        width: int = 8,
        height: int = 8,
    ) -> None:
        """A table: a row for each series, a column for each label, the value last under the name `value`.

        words: what a value is called and its colour, as {"1": ("up", "green")}.
        """
        panel = (
            table.Panel()
            .show_header(True)
            .align(FieldTextAlignment.AUTO)
            .cell_options(TableAutoCellOptions())
            .thresholds(_steps(((None, GREEN),)))
            .with_transformation(
                DataTransformerConfig(
                    id_val="organize",
                    options={"excludeByName": {"Time": True}, "renameByName": {"Value": value}},
                )
            )
        )
        if words:
            results = {
                number: ValueMappingResult(text=text, color=color, index=index)
                for index, (number, (text, color)) in enumerate(words.items())
            }
            panel.mappings([ValueMap(options=results)])
        self._add(panel, title, about, unit, [query], self.grid.place(width, height))


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _steps(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def per_second(metric: str, by: str = "", where: str = "") -> str:
    """sum (by labels) of a counter's rate."""
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({metric}{{{where}}}[{RATE}]))" if where else f"{total} (rate({metric}[{RATE}]))"


def quantile(part: float, histogram: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram, over all processes, for each value of the labels `by`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, {per_second(f'{histogram}_bucket', labels, where)})"


def mean(histogram: str, by: str = "") -> str:
    """Sum over count of a histogram."""
    return f"{per_second(f'{histogram}_sum', by)} / {per_second(f'{histogram}_count', by)}"
