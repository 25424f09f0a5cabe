"""Prometheus's configuration and alerts: valid, each alert tested by promtool, each with its runbook."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from keymiss.resources import PROJECT
from tests.patience import patient
from tests.unit.test_docs_are_complete import anchors

FOLDER = PROJECT / "prometheus"
ALERTS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
COMPARISON = re.compile(r" ([<>]) (\d+(?:\.\d+)?)$")
NAMES = [alert["alert"] for alert in ALERTS]


def names_in(test: dict[str, Any]) -> set[str]:
    return {case["alertname"] for case in test.get("alert_rule_test", ())}


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=patient(60))


def test_the_configuration_is_valid() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_every_alert_fires_when_it_should_and_is_silent_when_not() -> None:
    tested = promtool("test", "rules", "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_that_is_wrong_is_noticed(alert: dict[str, Any], tmp_path: Path) -> None:
    """Else the tests above would pass whatever the alert says: here its comparison is turned round."""
    opposite = {"<": ">=", ">": "<="}
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        if rule["alert"] == alert["alert"]:
            rule["expr"] = COMPARISON.sub(lambda at: f" {opposite[at[1]]} {at[2]}", rule["expr"].strip())
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    cases = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())
    cases["tests"] = [test for test in cases["tests"] if alert["alert"] in names_in(test)]
    (tmp_path / "alerts_test.yml").write_text(yaml.safe_dump(cases))
    assert promtool("test", "rules", "alerts_test.yml", folder=tmp_path).returncode != 0


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: dict[str, Any]) -> None:
    assert COMPARISON.search(alert["expr"].strip()), "one comparison, at its end"
    assert alert["labels"]["severity"] in ("critical", "warning")
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    page, _, anchor = notes["runbook"].partition("#")
    assert page == "docs/watching.md"
    assert anchor == alert["alert"].lower()
    assert anchor in anchors(PROJECT / page)


def test_every_alert_is_tested_both_ways() -> None:
    cases = [case for test in CASES for case in test.get("alert_rule_test", ())]
    for wanted in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is wanted} == set(NAMES)


def test_every_runbook_is_of_an_alert() -> None:
    headings = re.findall(r"^### (Keymiss\w+)$", (PROJECT / "docs" / "watching.md").read_text(), re.M)
    assert headings == NAMES


def test_every_job_of_the_containers_has_its_targets() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    files = {
        file
        for job in configuration["scrape_configs"]
        for sd in job["file_sd_configs"]
        for file in sd["files"]
    }
    assert files == {f"targets/{path.name}" for path in (FOLDER / "targets").glob("*.json")}
    for group in json.loads((FOLDER / "targets" / "redis.json").read_text()):
        assert group["labels"]["__param_target"] == f"redis://{group['labels']['instance']}"
