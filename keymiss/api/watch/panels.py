"""The dashboards' panels with their data. Only the committed queries can be run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keymiss.api.http.problems import NoPrometheus, NoSuchDashboard, NoSuchPanel, TooManyPanels
from keymiss.api.settings import ApiSettings
from keymiss.api.watch.dashboards import Dashboard, Panel, Target, expand, load_dashboards
from keymiss.api.watch.legends import legends
from keymiss.api.watch.prometheus import HOW_TO_START, Grid, Prometheus, Series

MOST_POINTS = 240
STEPS_S = (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
"""5 s: no figure is measured more often."""
SHARED_FOR_S = 2.0
MOST_AT_ONCE = 200
"""Panels that are being asked for; a page asks for some twenty."""


def step_for(range_s: int) -> int:
    """The shortest step that gives at most MOST_POINTS over the range (and one more, at its start)."""
    return next(step for step in STEPS_S if range_s <= step * MOST_POINTS)


def grid_for(range_s: int, now_s: float) -> Grid:
    """Times that are multiples of the step: a picture that is drawn again moves, it does not flicker."""
    step_s = step_for(range_s)
    end_s = int(now_s) // step_s * step_s
    return Grid(end_s - range_s // step_s * step_s, end_s, step_s)


@dataclass(slots=True)
class _Shared:
    task: asyncio.Task[dict[str, Any]]
    asked_at: float  # of the loop's clock, seconds


class Watch:
    """``prometheus`` is None where none is configured: dashboards can be read, their panels not filled."""

    def __init__(self, prometheus: Prometheus | None, dashboards: Mapping[str, Dashboard]) -> None:
        self.prometheus = prometheus
        self.dashboards = dashboards
        self._shared: dict[tuple[str, int, int], _Shared] = {}

    @classmethod
    def from_settings(cls, settings: ApiSettings) -> Watch:
        """The committed dashboards, and the Prometheus of the settings."""
        url = settings.prometheus_url
        return cls(Prometheus(url) if url else None, load_dashboards())

    async def close(self) -> None:
        """Ends what is being asked."""
        for one in self._shared.values():
            one.task.cancel()
        if self.prometheus:
            await self.prometheus.close()

    def dashboard(self, uid: str) -> Dashboard:
        """Raises NoSuchDashboard."""
        if uid not in self.dashboards:
            raise NoSuchDashboard(f"there is no dashboard {uid}; there are: {', '.join(self.dashboards)}")
        return self.dashboards[uid]

    async def panel(self, uid: str, panel_id: int, range_s: int) -> dict[str, Any]:
        """A panel's series over the last ``range_s`` seconds. Raises a Problem.

        Who asks for the same while it is being asked for, or within SHARED_FOR_S after it was, gets the
        same answer.
        """
        panel = next((one for one in self.dashboard(uid).panels if one.id == panel_id), None)
        if panel is None:
            raise NoSuchPanel(f"the dashboard {uid} has no panel {panel_id}")
        if self.prometheus is None:
            raise NoPrometheus(f"This service was started without Prometheus; {HOW_TO_START}")
        now = asyncio.get_running_loop().time()
        key = (uid, panel_id, range_s)
        known = self._shared.get(key)
        if known is None or self._is_old(known, now):
            self._shared = {k: one for k, one in self._shared.items() if not self._is_old(one, now)}
            if sum(not one.task.done() for one in self._shared.values()) >= MOST_AT_ONCE:
                raise TooManyPanels(f"{MOST_AT_ONCE} panels are being read; ask again in a second")
            task = asyncio.create_task(self._fill(self.prometheus, panel, range_s))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left
            known = self._shared[key] = _Shared(task, now)
        return await asyncio.shield(known.task)  # another viewer may wait for it too

    @staticmethod
    def _is_old(one: _Shared, now: float) -> bool:
        return one.task.done() and now - one.asked_at > SHARED_FOR_S

    async def _fill(self, prometheus: Prometheus, panel: Panel, range_s: int) -> dict[str, Any]:
        now_s = time.time()
        grid = grid_for(range_s, now_s)

        async def ask(target: Target) -> list[Series]:
            expr = expand(target.expr, grid.step_s, range_s)
            return await (prometheus.now(expr, now_s) if target.instant else prometheus.over(expr, grid))

        found = await asyncio.gather(*(ask(target) for target in panel.targets))
        series = [
            {"ref": target.ref, "legend": legend, "labels": one.labels, "points": one.points}
            for target, each in zip(panel.targets, found, strict=True)
            for legend, one in zip(
                legends(target.legend, target.expr, [one.labels for one in each]), each, strict=True
            )
        ]
        return {"series": series, "step_s": grid.step_s, "range_s": range_s}
