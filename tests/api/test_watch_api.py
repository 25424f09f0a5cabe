"""GET /watch/dashboards...: what is committed, what Prometheus says, and what is said when it is away."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import httpx
import pytest

from keymiss.api.http.problems import NoPrometheus, PrometheusFailed, PrometheusLate
from keymiss.api.settings import ApiSettings
from keymiss.api.watch.dashboards import DASHBOARDS, Dashboard, load_dashboards, parse_dashboard
from keymiss.api.watch.legends import legends
from keymiss.api.watch.panels import MOST_POINTS, STEPS_S, Watch, grid_for, step_for
from keymiss.api.watch.prometheus import AT_ONCE, MAX_REPLY_BYTES, Grid, Prometheus
from keymiss.environment import BadSetting
from tests.api.processes import ApiProcess, pause, resume
from tests.api.test_qasearch_bad_input import assert_problem
from tests.patience import patient
from tests.prometheus_process import PrometheusProcess
from tests.servers import REPO, free_port, wait_until

NO_CLUSTER = "127.0.0.1:1"  # the dashboards need none
UID = "keymiss-pattern"
ALERTS_FIRING = next(p.id for p in load_dashboards()[UID].panels if p.title == "Alerts firing")
"""A panel that has data wherever there is a Prometheus: `... or vector(0)`."""


def panel(api: ApiProcess, panel_id: int = ALERTS_FIRING, uid: str = UID, **query: Any) -> httpx.Response:
    return httpx.get(f"{api.url}/watch/dashboards/{uid}/panels/{panel_id}", params=query, timeout=patient(30))


@pytest.fixture(scope="module")
def prometheus() -> Iterator[PrometheusProcess]:
    with PrometheusProcess() as running:
        yield running


@pytest.fixture(scope="module")
def api(prometheus: PrometheusProcess) -> Iterator[ApiProcess]:
    with ApiProcess(NO_CLUSTER, env={"KEYMISS_API_PROMETHEUS_URL": prometheus.url}) as running:
        yield running


def made(*targets: dict[str, Any]) -> dict[str, Dashboard]:
    """A dashboard "made" with one panel, number 1."""
    raw = {
        "id": 1,
        "title": "Made",
        "type": "timeseries",
        "description": "Made for a test.",
        "gridPos": {"h": 1, "w": 1, "x": 0, "y": 0},
        "fieldConfig": {"defaults": {"unit": "none"}},
        "targets": [
            {"refId": ref, **target} for ref, target in zip("ABCDEFGHIJKLMNOP", targets, strict=False)
        ],
    }
    return {"made": parse_dashboard({"uid": "made", "title": "Made", "panels": [raw]})}


def test_the_dashboards_and_their_json(api: ApiProcess) -> None:
    known = httpx.get(f"{api.url}/watch/dashboards").json()
    assert known["measured"] is True
    assert known["dashboards"][0] == {"uid": UID, "title": "The Pattern"}
    committed = [json.loads(file.read_text()) for file in DASHBOARDS.glob("*.json")]
    assert {one["uid"] for one in known["dashboards"]} == {one["uid"] for one in committed}
    for one in committed:
        assert httpx.get(f"{api.url}/watch/dashboards/{one['uid']}").json() == one


def test_a_panel_has_a_point_for_each_step(api: ApiProcess) -> None:
    before_s = time.time()
    reply = panel(api, range_s=300)
    assert reply.status_code == 200, reply.text
    data = reply.json()
    assert (data["step_s"], data["range_s"]) == (5, 300)
    (series,) = data["series"]
    assert (series["ref"], series["legend"], series["labels"]) == ("A", "firing", {})
    times = [time_s for time_s, _ in series["points"]]
    assert [later - earlier for earlier, later in pairwise(times)] == [5] * 60
    assert before_s - 5 <= times[-1] <= time.time()
    assert series["points"][-1][1] == 0


def test_every_committed_query_can_be_run(api: ApiProcess) -> None:
    """Also where nothing is measured yet: Prometheus accepts each, and an empty answer is no error."""
    for uid, dashboard in load_dashboards().items():
        for one in dashboard.panels:
            reply = panel(api, one.id, uid)
            assert reply.status_code == 200, (uid, one.title, reply.text)


def test_what_there_is_not_is_404(api: ApiProcess) -> None:
    assert_problem(panel(api, uid="nothing"), 404, "nothing", UID)
    assert_problem(panel(api, panel_id=9999), 404, "9999")
    assert_problem(httpx.get(f"{api.url}/watch/dashboards/nothing"), 404, UID)


@pytest.mark.parametrize("range_s", [59, 604801, -1, "long", "1e3", ""])
def test_a_bad_range_is_422(api: ApiProcess, range_s: object) -> None:
    assert_problem(panel(api, range_s=range_s), 422, "range_s")


def test_a_uid_or_a_panel_that_cannot_be_one_is_422(api: ApiProcess) -> None:
    assert_problem(httpx.get(f"{api.url}/watch/dashboards/a.b"), 422, "uid")
    assert_problem(httpx.get(f"{api.url}/watch/dashboards/{UID}/panels/x"), 422, "panel_id")


def test_no_promql_comes_from_a_client(api: ApiProcess) -> None:
    plain = panel(api, range_s=60).json()["series"]
    given = panel(api, range_s=60, query="up", expr="up", ref="A").json()["series"]
    assert [one["labels"] for one in given] == [one["labels"] for one in plain] == [{}]


def test_without_prometheus_the_dashboards_are_there_and_the_panels_say_how_to_start() -> None:
    with ApiProcess(NO_CLUSTER) as api:
        assert httpx.get(f"{api.url}/watch/dashboards").json()["measured"] is False
        assert httpx.get(f"{api.url}/watch/dashboards/{UID}").status_code == 200
        assert_problem(panel(api), 503, "without Prometheus", "scripts/start.sh --observe")
        assert_problem(panel(api, panel_id=9999), 404)


def test_a_prometheus_that_is_away_and_comes_back() -> None:
    running = PrometheusProcess()
    with running, ApiProcess(NO_CLUSTER, env={"KEYMISS_API_PROMETHEUS_URL": f"{running.url}/"}) as api:
        assert panel(api).status_code == 200
        running.terminate()
        away = wait_until(lambda: (r := panel(api)).status_code == 503 and r, 10, "it is away")
        assert_problem(away, 503, running.url, "scripts/start.sh --observe")
        assert away.headers["retry-after"] == "5"
        running.start()
        wait_until(lambda: panel(api).status_code == 200, 10, "it is back")


def test_a_prometheus_that_does_not_answer_in_time() -> None:
    running = PrometheusProcess()
    with running, ApiProcess(NO_CLUSTER, env={"KEYMISS_API_PROMETHEUS_URL": running.url}) as api:
        pause(running)
        try:
            assert_problem(panel(api), 504, "within 5 s")
        finally:
            resume(running)


def test_the_password_of_prometheus_is_shown_nowhere() -> None:
    secret = "a-secret-of-prometheus"
    url = f"http://somebody:{secret}@127.0.0.1:{free_port()}"
    assert secret not in repr(ApiSettings.from_env({"KEYMISS_API_PROMETHEUS_URL": url}))
    with ApiProcess(NO_CLUSTER, env={"KEYMISS_API_PROMETHEUS_URL": url}) as api:
        reply = panel(api)
        assert reply.status_code == 503
        assert secret not in reply.text
        assert secret not in api.log_text()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:9090",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://h?q=1",
        "http://h#x",
        "http://h\n",
    ],
)
def test_an_address_that_is_none_is_said_at_the_start(url: str) -> None:
    with pytest.raises(BadSetting, match="KEYMISS_API_PROMETHEUS_URL"):
        ApiSettings.from_env({"KEYMISS_API_PROMETHEUS_URL": url})


def test_the_process_ends_with_2_and_does_not_repeat_the_address() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "keymiss.api"],
        cwd=REPO,
        env={"PYTHONPATH": str(REPO), "KEYMISS_API_PROMETHEUS_URL": "ftp://me:geheim@host"},
        capture_output=True,
        text=True,
        timeout=patient(60),
    )
    assert ended.returncode == 2
    assert "KEYMISS_API_PROMETHEUS_URL" in ended.stderr
    assert "geheim" not in ended.stderr


@pytest.mark.parametrize("range_s", [60, 61, 299, 300, 900, 1200, 1201, 3600, 21600, 86400, 604799, 604800])
def test_a_range_has_at_most_240_steps_all_multiples_of_the_step(range_s: int) -> None:
    grid = grid_for(range_s, 1_760_000_003.7)
    assert grid.step_s == step_for(range_s) in STEPS_S
    assert len(grid.times) <= MOST_POINTS + 1
    assert grid.times[0] % grid.step_s == grid.times[-1] % grid.step_s == 0
    assert 0 <= 1_760_000_003.7 - grid.times[-1] < grid.step_s
    assert range_s - grid.step_s < grid.times[-1] - grid.times[0] <= range_s


ONE, OTHER = {"shard": "a", "job": "x"}, {"shard": "b", "job": "x"}


@pytest.mark.parametrize(
    ("template", "series", "names"),
    [
        ("{{shard}}", [ONE, OTHER], ["a", "b"]),
        ("{{ shard }} of {{job}}", [ONE], ["a of x"]),
        ("{{nothing}}!", [ONE], ["!"]),
        ("always", [ONE, OTHER], ["always", "always"]),
        ("__auto", [ONE, OTHER], ["a", "b"]),
        ("__auto", [ONE], ['{job="x", shard="a"}']),
        ("__auto", [{"shard": "a"}], ["a"]),
        ("__auto", [{}], ["up"]),
        ("__auto", [ONE, {"shard": "b", "job": "y"}], ['{job="x", shard="a"}', '{job="y", shard="b"}']),
        ("__auto", [ONE, {"job": "x"}], ["a", "up"]),
        ("", [{"__name__": "up", **ONE}], ['up{job="x", shard="a"}']),
        ("", [{"__name__": "up"}, {}], ["up", "up"]),
    ],
)
def test_legends_are_grafana_s(template: str, series: list[dict[str, str]], names: list[str]) -> None:
    assert legends(template, "up", series) == names


class Counting(BaseHTTPRequestHandler):
    """Another server that speaks as Prometheus does, to see what it is asked and when.

    It answers when `open` is set; `body` is what it says, `status` with which code."""

    protocol_version = "HTTP/1.1"
    asked: list[str]
    waiting = 0
    most = 0
    lock = threading.Lock()
    open: threading.Event
    body: bytes
    status: int

    def do_POST(self) -> None:
        kind = type(self)
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with kind.lock:
            kind.asked.append(form)
            kind.waiting += 1
            kind.most = max(kind.most, kind.waiting)
        kind.open.wait(patient(20))
        with kind.lock:
            kind.waiting -= 1
        self.send_response(kind.status)
        self.send_header("Content-Length", str(len(kind.body)))
        self.end_headers()
        self.wfile.write(kind.body)

    def log_message(self, *_: object) -> None:
        pass


NOTHING = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}}).encode()


@contextmanager
def counting(body: bytes = NOTHING, status: int = 200, answers: bool = True) -> Iterator[tuple[str, Any]]:
    """Its address, and its class with what it saw."""
    seen: Any = type(
        "Seen", (Counting,), {"asked": [], "open": threading.Event(), "body": body, "status": status}
    )
    if answers:
        seen.open.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), seen)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        seen.open.set()
        server.shutdown()
        server.server_close()


async def until(seen: Any, number: int) -> None:
    """Returns when that many queries wait there."""
    async with asyncio.timeout(patient(10)):
        while seen.waiting < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_eight_queries_at_once_at_most() -> None:
    with counting(answers=False) as (url, seen):
        watch = Watch(Prometheus(url), made(*[{"expr": f"up + {i}"} for i in range(12)]))
        panel = asyncio.create_task(watch.panel("made", 1, 60))
        await until(seen, AT_ONCE)
        seen.open.set()
        assert (await panel)["series"] == []
        await watch.close()
        assert len(seen.asked) == 12
        assert seen.most == AT_ONCE


async def test_viewers_of_the_same_share_an_answer() -> None:
    with counting(answers=False) as (url, seen):
        watch = Watch(Prometheus(url), made({"expr": "up"}))
        viewers = [asyncio.create_task(watch.panel("made", 1, 60)) for _ in range(5)]
        other = asyncio.create_task(watch.panel("made", 1, 300))
        await until(seen, 2)
        viewers[0].cancel()  # who leaves takes nothing from the others
        seen.open.set()
        answers = await asyncio.gather(*viewers[1:])
        assert all(answer is answers[0] for answer in answers)
        assert await other is not answers[0]
        assert await watch.panel("made", 1, 60) is answers[0]
        assert len(seen.asked) == 2
        await watch.close()


async def test_a_failure_is_shared_and_then_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with counting(b'{"status":"error","errorType":"bad_data","error":"no such thing"}', 400) as (url, seen):
        watch = Watch(Prometheus(url), made({"expr": "up"}))
        for _ in range(2):
            with pytest.raises(PrometheusFailed, match="no such thing"):
                await watch.panel("made", 1, 60)
        assert len(seen.asked) == 1
        monkeypatch.setattr("keymiss.api.watch.panels.SHARED_FOR_S", 0.0)
        seen.body, seen.status = NOTHING, 200
        assert (await watch.panel("made", 1, 60))["series"] == []
        await watch.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "is not Prometheus"),
        (b"[]", "is not Prometheus"),
        (b'{"data": 1}', "is not Prometheus"),
        (b" " * (MAX_REPLY_BYTES + 1), f"more than {MAX_REPLY_BYTES} bytes"),
    ],
)
async def test_a_reply_that_cannot_be_used(body: bytes, words: str) -> None:
    with counting(body) as (url, _):
        prometheus = Prometheus(url)
        with pytest.raises(PrometheusFailed, match=re.escape(words)):
            await prometheus.now("up", 0)
        await prometheus.close()


async def test_what_is_no_number_is_null_and_gaps_are_filled() -> None:
    values = [[10, "1.5"], [20, "NaN"], [40, "+Inf"], [50, "-2"]]
    reply = {
        "status": "success",
        "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]},
    }
    with counting(json.dumps(reply).encode()) as (url, _):
        prometheus = Prometheus(url)
        (series,) = await prometheus.over("up", Grid(0, 60, 10))
        await prometheus.close()
    assert series.points == [(0, None), (10, 1.5), (20, None), (30, None), (40, None), (50, -2.0), (60, None)]


async def test_instant_queries_have_one_point_and_a_scalar_is_a_series() -> None:
    reply = {"status": "success", "data": {"resultType": "scalar", "result": [7, "3"]}}
    with counting(json.dumps(reply).encode()) as (url, seen):
        watch = Watch(Prometheus(url), made({"expr": "scalar(up)", "legendFormat": "n", "instant": True}))
        data = await watch.panel("made", 1, 60)
        await watch.close()
        assert data["series"] == [{"ref": "A", "legend": "n", "labels": {}, "points": [(7.0, 3.0)]}]
        assert "step=" not in seen.asked[0]


async def test_without_prometheus_nothing_is_asked() -> None:
    watch = Watch(None, made({"expr": "up"}))
    with pytest.raises(NoPrometheus):
        await watch.panel("made", 1, 60)
    await watch.close()


async def test_a_late_answer_frees_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keymiss.api.watch.prometheus.TIME_LIMIT_S", 0.2)
    with counting(answers=False) as (url, seen):
        prometheus = Prometheus(url)
        asked = [prometheus.now("up", 0) for _ in range(AT_ONCE)]
        late = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in late} == {PrometheusLate}
        seen.open.set()
        seen.body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
        monkeypatch.undo()
        assert await prometheus.now("up", 0) == []
        await prometheus.close()


def test_many_viewers_of_all_panels(api: ApiProcess) -> None:
    """As five pages that read a dashboard at the same moment."""
    panels = [one.id for one in load_dashboards()[UID].panels]
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda each: panel(api, each, range_s=3600).status_code, panels * 5))
    assert set(statuses) == {200}
