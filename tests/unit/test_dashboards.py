"""The dashboards' files: as they are made, valid by Grafana's own types, complete, without overlap."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard
from jsonschema import Draft7Validator

from grafana.make_dashboards import FOLDER, dashboards
from keymiss.api.watch.dashboards import (
    DASHBOARDS,
    ORDER,
    SCRAPE_S,
    Dashboard,
    Panel,
    expand,
    load_dashboards,
)
from keymiss.resources import PROJECT

PAGES = load_dashboards()
PANELS = [(page, panel) for page in PAGES.values() for panel in page.panels]
SCHEMA = json.loads((PROJECT / "tests" / "grafana_schema" / "schema.json").read_text())
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=list(PAGES))
each_panel = pytest.mark.parametrize(
    "panel", [panel for _, panel in PANELS], ids=[f"{page.uid}-{panel.title}" for page, panel in PANELS]
)


def test_the_files_are_what_the_code_makes() -> None:
    assert FOLDER == DASHBOARDS
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == dashboards(), (
        "run: python -m grafana.make_dashboards"
    )


def test_there_are_three_in_order() -> None:
    assert [page.title for page in PAGES.values()] == ["The Pattern", "Gears and models", "Redis cluster"]
    assert {path.stem for path in FOLDER.glob("*.json")} == set(ORDER)


@each_page
def test_grafanas_own_types_read_it_and_write_the_same(page: Dashboard) -> None:
    register_default_plugins()
    read = GrafanaDashboard.from_json(page.raw)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == page.raw


def test_the_schema_and_the_types_are_those_of_the_grafana_that_is_started() -> None:
    started = re.search(r"KEYMISS_GRAFANA_VERSION:-([\d.]+)", (PROJECT / "docker-compose.yml").read_text())
    assert started
    assert started[1] == SCHEMA["version"]
    assert re.search(
        rf"^grafana-foundation-sdk==\d+!{re.escape(started[1])} ",
        (PROJECT / "requirements-dev.lock").read_text(),
        re.M,
    )


def faults(schema: dict[str, Any], document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(document)]


@each_page
def test_a_dashboard_fits_grafanas_schema(page: Dashboard) -> None:
    assert faults(SCHEMA["dashboard"], page.raw) == []


@each_panel
def test_a_panels_options_fit_grafanas_schema(panel: Panel) -> None:
    schemas = SCHEMA["panels"][panel.type]
    assert faults(schemas["options"], panel.raw["options"]) == []
    custom = panel.raw["fieldConfig"]["defaults"].get("custom")
    assert custom is None or faults(schemas["fieldConfig"], custom) == []


def test_the_schema_is_one_that_can_refuse() -> None:
    page = next(iter(PAGES.values())).raw
    assert faults(SCHEMA["dashboard"], page | {"style": "dark"})  # Grafana 11 has none
    assert faults(SCHEMA["dashboard"], page | {"panels": [{**page["panels"][0], "transparent": "no"}]})
    stat = next(panel for panel in page["panels"] if panel["type"] == "stat")
    assert faults(SCHEMA["panels"]["stat"]["options"], stat["options"] | {"graphMode": "bars"})


@each_page
def test_ids_are_unique_and_panels_do_not_overlap(page: Dashboard) -> None:
    assert len({panel.id for panel in page.panels}) == len(page.panels)
    taken: dict[tuple[int, int], str] = {}
    for panel in page.panels:
        at = panel.grid
        assert at.w > 0
        assert at.h > 0
        assert 0 <= at.x <= at.x + at.w <= 24
        for cell in ((x, y) for x in range(at.x, at.x + at.w) for y in range(at.y, at.y + at.h)):
            assert taken.setdefault(cell, panel.title) == panel.title
    assert not [pair for pair in combinations(page.panels, 2) if pair[0].title == pair[1].title]


@each_panel
def test_a_panel_is_complete(panel: Panel) -> None:
    assert panel.title
    assert panel.description.endswith(".")
    assert panel.unit in UNITS
    assert panel.type in ("timeseries", "stat", "gauge", "bargauge", "table")
    assert panel.targets
    assert len({target.ref for target in panel.targets}) == len(panel.targets)
    for target in panel.targets:
        assert target.expr
        assert target.instant is (panel.type in ("table", "bargauge"))
        assert target.legend or panel.type == "table"
    sources = [panel.raw["datasource"]["uid"], *(t["datasource"]["uid"] for t in panel.raw["targets"])]
    assert set(sources) == {provisioned()["uid"]}


def provisioned() -> dict[str, Any]:
    file = PROJECT / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    source: dict[str, Any] = yaml.safe_load(file.read_text())["datasources"][0]
    return source


def test_grafana_is_told_the_scrape_interval() -> None:
    scraped = yaml.safe_load((PROJECT / "prometheus" / "prometheus.yml").read_text())["global"]
    assert provisioned()["jsonData"]["timeInterval"] == scraped["scrape_interval"] == f"{SCRAPE_S:.0f}s"


def test_variables_become_durations() -> None:
    text = "rate(a[$__rate_interval]) + rate(b[$__interval]) + rate(c[$__range])"
    assert expand(text, 5, 900) == "rate(a[20s]) + rate(b[5s]) + rate(c[900s])"
    assert expand(text, 60, 86400) == "rate(a[65s]) + rate(b[60s]) + rate(c[86400s])"
    assert expand("rate(b[$__interval])", 7.5, 60) == "rate(b[7500ms])"


@each_panel
def test_no_variable_is_left(panel: Panel) -> None:
    assert not [target.expr for target in panel.targets if "$" in expand(target.expr, 5, 900)]
