"""What --observe writes and starts: Prometheus's targets and interval, Grafana's settings, if it is there."""

from __future__ import annotations

import configparser
import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from keymiss.environment import BadSetting
from keymiss.local.observe import find_grafana, observing_programs, targets, with_interval, write_observing
from keymiss.local.preflight import observing_problems
from keymiss.local.processes import programs
from keymiss.resources import PROJECT
from keymiss.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var", observe=True, masters=2, base_port=31001)


def install(path: Path, text: str = "#!/bin/sh\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def grafana(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as Grafana's archive has it, its bin on the path. Not Grafana itself: nothing runs here."""
    home = tmp_path / "grafana-11"
    install(home / "bin" / "grafana")
    install(home / "conf" / "defaults.ini", "")
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    return home


def test_every_node_is_a_target_of_the_exporter(settings: Settings) -> None:
    redis = targets(settings)["redis"]
    assert [group["labels"]["instance"] for group in redis] == [f"127.0.0.1:{31001 + i}" for i in range(4)]
    assert {group["targets"][0] for group in redis} == {"127.0.0.1:9121"}


def test_the_configuration_is_that_of_the_project(settings: Settings) -> None:
    write_observing(settings)
    folder = settings.var / "prometheus"
    for name in ("prometheus.yml", "alerts.yml"):
        assert (folder / name).read_text() == (PROJECT / "prometheus" / name).read_text()
    jobs = {file.stem: json.loads(file.read_text()) for file in (folder / "targets").glob("*.json")}
    assert jobs == targets(settings)
    assert set(jobs) == {file.stem for file in (PROJECT / "prometheus" / "targets").glob("*.json")}


def test_another_interval() -> None:
    text = with_interval((PROJECT / "prometheus" / "prometheus.yml").read_text(), 1)
    assert yaml.safe_load(text)["global"] == {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }


def test_the_api_is_told_only_when_it_is_observed(settings: Settings) -> None:
    def api(of: Settings) -> dict[str, str]:
        return dict(next(program for program in programs(of) if program.name == "api").environment)

    assert api(settings)["KEYMISS_API_PROMETHEUS_URL"] == "http://127.0.0.1:9090"
    assert "KEYMISS_API_PROMETHEUS_URL" not in api(settings.model_copy(update={"observe": False}))
    assert observing_programs(settings.model_copy(update={"observe": False})) == []


def test_prometheus_has_no_interface_that_changes_it(settings: Settings) -> None:
    command = next(p.command for p in observing_programs(settings) if p.name == "prometheus")
    assert "--web.listen-address 127.0.0.1:9090" in command
    assert "web.enable" not in command


def test_grafana_is_started_when_it_is_installed(settings: Settings, grafana: Path) -> None:
    assert find_grafana() == (f'"{grafana}/bin/grafana" server', grafana)
    write_observing(settings)
    (program,) = (p for p in observing_programs(settings) if p.name == "grafana")
    assert f'--homepath "{grafana}"' in program.command
    assert program.environment["KEYMISS_PROMETHEUS_URL"] == "http://127.0.0.1:9090"
    assert Path(program.environment["KEYMISS_GRAFANA_DASHBOARDS"]) == PROJECT / "grafana" / "dashboards"
    for file in (PROJECT / "grafana" / "provisioning").rglob("*.yml"):
        used = {word.strip() for word in file.read_text().split("$")[1:] for word in word.split("\n")[:1]}
        assert {name for name in used if name.startswith("KEYMISS")} <= set(program.environment)

    ini = configparser.RawConfigParser()
    ini.read(settings.var / "grafana" / "grafana.ini")
    assert ini["server"]["http_addr"] == "127.0.0.1"
    assert ini["auth.anonymous"] == {"enabled": "true", "org_role": "Viewer"}
    assert Path(ini["paths"]["provisioning"]) == PROJECT / "grafana" / "provisioning"
    password = Path(ini["security"]["admin_password"].removeprefix("$__file{").removesuffix("}"))
    assert len(password.read_text()) >= 20
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    before = password.read_text()
    write_observing(settings)
    assert password.read_text() == before


def test_half_of_grafana_is_none(settings: Settings, grafana: Path) -> None:
    (grafana / "conf" / "defaults.ini").unlink()
    assert find_grafana() is None


def test_what_is_not_installed_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = "\n".join(observing_problems(settings))
    assert "prometheus is not installed" in found
    assert "prometheus-redis-exporter is not installed" in found


@pytest.mark.parametrize(("name", "value"), [("KEYMISS_OBSERVE", "1"), ("KEYMISS_SCRAPE_INTERVAL_S", "6")])
def test_a_bad_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        Settings.from_env({name: value})
