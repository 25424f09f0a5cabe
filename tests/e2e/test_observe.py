"""Watched as a user does it, with --observe: every panel of every dashboard and every alert has data."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis

from keymiss.api.watch.dashboards import expand, load_dashboards
from keymiss.local.observe import prometheus_url
from keymiss.local.processes import processes_of
from tests.e2e.test_whole_system import QUESTION, System
from tests.patience import patient
from tests.servers import REPO, free_port, open_folder, wait_until
from tests.unit.test_alerts import ALERTS, COMPARISON

ARTICLES = [REPO / "data" / "sample" / f"KM00{i:02}.json" for i in (1, 2, 3)]
LATER_ARTICLE = REPO / "data" / "sample" / "KM0004.json"
pytestmark = pytest.mark.timeout(240)
"""The first test pays for the start, the models and the articles."""
STEP_S, RANGE_S = 1.0, 60.0
EXPRESSIONS = {alert["alert"]: COMPARISON.sub(r" \1 bool \2", alert["expr"].strip()) for alert in ALERTS}


class Watched(System):
    """With Prometheus and the exporter, that look every second."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.env |= {
            "KEYMISS_PROMETHEUS_PORT": str(free_port()),
            "KEYMISS_EXPORTER_PORT": str(free_port()),
            "KEYMISS_GRAFANA_PORT": str(free_port()),
            "KEYMISS_SCRAPE_INTERVAL_S": "1",
        }
        self.settings = self.settings.from_env(self.env)

    def prometheus(self, path: str, **parameters: Any) -> Any:
        """The data of an answer of its API; AssertionError when it says error."""
        url = f"{prometheus_url(self.settings)}/api/v1/{path}"
        answer = (httpx.post(url, data=parameters) if parameters else httpx.get(url)).json()
        assert answer["status"] == "success", f"{parameters}: {answer['error']}"
        return answer["data"]

    def now(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.prometheus("query", query=query)["result"]
        return found

    def has_data(self, query: str, instant: bool) -> bool:
        """Whether the query gives a number (NaN is none), at this moment or in the last RANGE_S seconds."""
        if instant:
            values = [series["value"] for series in self.now(query)]
        else:
            end_s = time.time()
            span = {"start": end_s - RANGE_S, "end": end_s, "step": STEP_S}
            found = self.prometheus("query_range", query=query, **span)["result"]
            values = [value for series in found for value in series["values"]]
        return any(math.isfinite(float(text)) for _, text in values)

    def alerts(self) -> dict[str, str]:
        """Name -> pending or firing."""
        found = self.prometheus("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["state"] for alert in found}


class Load:
    """Questions through nginx and GETs that hit and miss, from two threads until the block ends."""

    def __init__(self, system: Watched) -> None:
        self.system = system
        self.over = threading.Event()
        self.failed: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._ask, self._get)]

    def _run(self, work: Callable[[int], None]) -> None:
        number = 0
        while not self.over.wait(0.3):  # a pace, not a wait for anything
            try:
                work(number)
            except (httpx.HTTPError, redis.RedisError, AssertionError) as error:
                self.failed.append(error)
            number += 1

    def _ask(self, number: int) -> None:
        question = QUESTION if number % 2 else f"How long does influenza virus survive on surface {number}"
        assert self.system.ask(question).status_code == 200

    def _get(self, number: int) -> None:
        key = next(iter(self.client.scan_iter("sentence:*"))).decode()
        tag = key.rsplit(":", 1)[1]
        asked = number - number % 2  # each twice: a miss, then a hit
        assert self.client.get(f"bertqa{tag}_{key.removeprefix('sentence:')}:0_What is said, number {asked}?")

    def __enter__(self) -> Load:
        self.client = self.system.client()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(patient(40))
        self.client.close()


@pytest.fixture(scope="module")
def system() -> Iterator[Watched]:
    running = Watched(open_folder(), masters=2)
    nodes = ("--nodes", f"127.0.0.1:{running.settings.base_port}")
    try:
        started = running.script("start")
        assert started.returncode == 0, started.stdout + started.stderr
        assert "exporter" not in running.supervisor.states()
        nodes_before = [running.pid_of(f"redis:{port}") for port in running.settings.ports]
        started = running.script("start", "--observe")  # to a system that runs
        assert started.returncode == 0, started.stdout + started.stderr
        assert {state for state, _ in running.supervisor.states().values()} == {"RUNNING"}
        assert [running.pid_of(f"redis:{port}") for port in running.settings.ports] == nodes_before
        assert "up already" in running.script("start", "--observe").stdout
        assert f"Prometheus at {prometheus_url(running.settings)}/" in started.stdout
        assert f"https://localhost:{running.settings.https_port}/watch" in started.stdout
        running.python("-m", "keymiss.models.load", *nodes)
        running.python("-m", "keymiss.models.load_encoder", *nodes)
        for command in (
            ("gears", "upload", *sorted((REPO / "gears").glob("*.py"))),
            ("concepts", "load", REPO / "data" / "sample" / "concepts.csv", *nodes),
            ("load", *ARTICLES, *nodes),
        ):
            running.python("-m", "keymiss.cli", *map(str, command))
        wait_until(lambda: running.ask(QUESTION).json().get("results"), 60, "an answer through nginx")
        yield running
    finally:
        running.end()


def test_everything_is_scraped(system: Watched) -> None:
    def all_up() -> bool:
        targets = system.prometheus("targets")["activeTargets"]
        jobs = [target["labels"]["job"] for target in targets]
        assert sorted(jobs) == ["keymiss-api", "keymiss-worker", "prometheus", *["redis"] * 4]
        return {target["health"] for target in targets} == {"up"}

    wait_until(all_up, 20, "every target is up")
    up = {series["metric"]["instance"] for series in system.now("redis_up == 1")}
    assert up == {f"127.0.0.1:{port}" for port in system.settings.ports}


def test_every_panel_and_every_alert_has_data(system: Watched) -> None:
    queries = {
        f"{page.title} / {panel.title} / {target.ref}": (expand(target.expr, STEP_S, RANGE_S), target.instant)
        for page in load_dashboards().values()
        for panel in page.panels
        for target in panel.targets
    }
    queries |= {name: (expression, True) for name, expression in EXPRESSIONS.items()}
    assert len(queries) > 80
    with Load(system) as load:
        system.python("-m", "keymiss.cli", "load", str(LATER_ARTICLE))

        def full() -> bool:
            for name, (query, instant) in list(queries.items()):
                if system.has_data(query, instant):
                    del queries[name]
            return not queries or bool(load.failed)

        try:
            wait_until(full, 40, "data for every query", pause_s=1)
        except AssertionError:
            assert queries == {}, "queries that found nothing"
        states = system.alerts()
    assert load.failed == []
    assert states == {}, "a healthy system has no alert"


def test_a_stopped_worker_is_an_alert(system: Watched) -> None:
    before = {name: value(system, EXPRESSIONS[name]) for name in ("KeymissWorkerDown", "KeymissNoWorker")}
    assert before == {"KeymissWorkerDown": 0, "KeymissNoWorker": 0}
    system.supervisor._call("stopProcess", "worker")
    wanted = {"KeymissWorkerDown", "KeymissNoWorker"}
    wait_until(lambda: wanted <= set(system.alerts()), 20, "both alerts pend")
    firing = {"KeymissWorkerDown": "firing", "KeymissNoWorker": "firing"}
    wait_until(lambda: firing.items() <= system.alerts().items(), 30, "both alerts fire", pause_s=0.5)
    system.supervisor.start("worker")
    wait_until(lambda: not wanted & set(system.alerts()), 30, "both are over", pause_s=0.5)


def value(system: Watched, query: str) -> float:
    """The highest of the query's values."""
    return max(float(series["value"][1]) for series in system.now(query))


def listening(table: str) -> list[tuple[int, str]]:
    """(port, address in hex as the kernel writes it) of each socket that listens."""
    with open(table) as lines:
        rows = [line.split() for line in lines]
    return [(int(row[1].split(":")[1], 16), row[1].split(":")[0]) for row in rows if row[3] == "0A"]


def test_all_of_it_listens_on_loopback_only(system: Watched) -> None:
    settings = system.settings
    ports = {settings.prometheus_port, settings.exporter_port, settings.worker_metrics_port}
    assert {port for port, address in listening("/proc/net/tcp") if address == "0100007F"} >= ports
    assert not {port for port, _ in listening("/proc/net/tcp6")} & ports


def test_stop_ends_all_of_it_and_what_was_measured_stays(system: Watched) -> None:
    assert system.script("stop").returncode == 0
    assert processes_of(system.settings.var) == []
    stopped_at_s = time.time()
    started = system.script("start", "--observe")
    assert started.returncode == 0, started.stdout + started.stderr
    measured = system.prometheus("query", query="sum(keymiss_questions_total)", time=stopped_at_s)["result"]
    assert float(measured[0]["value"][1]) > 0
