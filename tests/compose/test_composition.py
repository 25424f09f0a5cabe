"""docker-compose.yml as it is, built and started by a real engine: it answers, also when a shard is killed.

Grafana is left out by an override, as its image comes from a registry (another test runs the dashboards'
queries against a real Prometheus). Everything else is real. The tests follow one another in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.compose.composition import Composition, wait_for_cluster
from tests.servers import wait_until

pytestmark = pytest.mark.timeout(1800)

QUESTION = "Who performs viral transmission among adults?"
ANSWER = "Infected adults with mild symptoms"
OTHER_QUESTION = "How long does influenza virus survive on surfaces"
REQUEST_ID = "follow-this-question-1"
LOG_SERVICE = re.compile(r"(?:\x1b\[2K)?([a-z]+)[-_]")
"""What docker-compose puts before a line of a log: nginx_1 (1.29), nginx-1 (2; 2.26 after an escape)."""
TAKE_OVER_S = 60.0
"""A node is thought dead after 10 s (KEYMISS_NODE_TIMEOUT_MS); the rest is for a slow machine."""


@pytest.fixture(scope="module")
def bootstrapped() -> Iterator[tuple[Composition, str]]:
    with Composition() as running:
        yield running, running.bootstrap()


@pytest.fixture
def running(bootstrapped: tuple[Composition, str]) -> Composition:
    return bootstrapped[0]


def test_bootstrap_ends_with_an_answer(bootstrapped: tuple[Composition, str]) -> None:
    _, printed = bootstrapped
    assert ANSWER in printed
    assert "total time:" in printed
    assert "keymiss-worker:" in printed


def test_the_second_time_the_answer_is_there_already(running: Composition) -> None:
    reply = running.ask(QUESTION)
    assert reply.status_code == 200
    first = reply.json()["results"][0]
    assert (first["answer"], first["cached"]) == (ANSWER, True)


def test_one_request_id_goes_through_nginx_api_and_worker(running: Composition) -> None:
    reply = running.ask(OTHER_QUESTION, REQUEST_ID)
    assert reply.headers["X-Request-ID"] == REQUEST_ID

    def services() -> set[str]:
        logs = running.compose("logs", "--no-color", "nginx", "api", "worker")
        named = (LOG_SERVICE.match(line) for line in logs.splitlines() if REQUEST_ID in line)
        return {name[1] for name in named if name}

    wait_until(lambda: services() == {"nginx", "api", "worker"}, 20, "the id in three logs", pause_s=0.5)
    logs = running.compose("logs", "--no-color", "nginx", "api", "worker")
    events = [json.loads(line.partition("|")[2]) for line in logs.splitlines() if REQUEST_ID in line]
    assert {"http", "question", "job_done"} <= {event["event"] for event in events}
    assert OTHER_QUESTION not in logs  # what was asked is nobody's business


def test_prometheus_reaches_everything(running: Composition) -> None:
    def up() -> bool:
        targets = running.get_in("prometheus", 9090, "/api/v1/targets")["data"]["activeTargets"]
        jobs = {target["labels"]["job"] for target in targets}
        return (
            jobs == {"keymiss-api", "keymiss-worker", "redis", "prometheus"}
            and len(targets) == 11
            and all(target["health"] == "up" for target in targets)
        )

    wait_until(up, 30, "every target is up", pause_s=1.0)
    query = "/api/v1/query?query=min(redis_up)"
    wait_until(
        lambda: running.get_in("prometheus", 9090, query)["data"]["result"][0]["value"][1] == "1",
        30,
        "the exporter may log in to every shard",
        pause_s=1.0,
    )


def test_only_the_front_is_published(running: Composition) -> None:
    published = [
        line
        for line in running.engine(
            "ps", "--filter", f"name={running.project}", "--format", "{{.Ports}}"
        ).splitlines()
        if "->" in line
    ]
    assert published == [f"127.0.0.1:{running.port}->8443/tcp"]


def test_a_killed_master_is_replaced_and_comes_back_as_replica(running: Composition) -> None:
    wait_for_cluster(running)
    # The master that QUESTION's answer is on: without it a question of the same words must miss something.
    slots_of = {node.address: node.slots for node in running.nodes() if node.master and node.slots}
    address = min(slots_of, key=lambda one: int(slots_of[one].split("-")[0]))
    victim = running.container(running.shard_at(address))
    running.engine("kill", victim)

    number = 0

    def asked() -> dict[str, list[str]]:
        nonlocal number
        number += 1  # never asked before: nothing is cached
        reply = running.ask(f"{QUESTION} {number}")
        assert reply.status_code == 200, reply.text  # questions go on
        shards: dict[str, list[str]] = reply.json()["coverage"]["shards"]
        return shards

    wait_until(
        lambda: (shards := asked())["failed"] or shards["late"] or shards["unindexed"],
        15,
        "coverage says that a shard is missing",
        pause_s=0.1,
    )

    def replaced() -> bool:
        masters = {node.address: node.slots for node in running.nodes() if node.master and node.alive}
        return address not in masters and slots_of[address] in masters.values()

    wait_until(replaced, TAKE_OVER_S, "the replica has the slots", pause_s=1.0)
    wait_until(
        lambda: not ((shards := asked())["failed"] or shards["late"]) and len(shards["answered"]) >= 3,
        TAKE_OVER_S,
        "all shards answer again",
        pause_s=0.5,
    )

    running.engine("start", victim)
    wait_until(
        lambda: any(node.address == address and not node.master and node.alive for node in running.nodes()),
        TAKE_OVER_S,
        "the killed one is a replica now",
        pause_s=1.0,
    )
    wait_for_cluster(running)


def test_data_and_answers_survive_down_and_up(running: Composition) -> None:
    running.compose("down")
    assert running.engine("ps", "-q", "--filter", f"name={running.project}").strip() == ""
    running.compose("up", "-d")

    def cached() -> bool:
        try:
            reply = running.ask(QUESTION)
        except httpx.TransportError:  # Docker's proxy takes connections before nginx does
            return False
        return reply.status_code == 200 and reply.json()["found"]

    wait_until(cached, 120, "an answer", pause_s=0.5)
    first = running.ask(QUESTION).json()["results"][0]
    assert (first["answer"], first["cached"]) == (ANSWER, True)
    wait_for_cluster(running)
