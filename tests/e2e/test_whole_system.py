"""The whole system as a user starts it: two masters with a replica each, worker, API, nginx, the real reader.

What happens to questions when a worker dies, a shard restarts, a replica is promoted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.local.cluster_creation import cluster_is_ok
from tests.e2e.test_start_stop import Local
from tests.patience import patient
from tests.servers import REPO, connect, open_folder, stand_still, wait_until

QUESTION = "Who performs viral transmission among adults"
CONCEPTS = REPO / "data" / "sample" / "concepts.csv"
ARTICLES = [REPO / "data" / "sample" / f"KM00{i:02}.json" for i in range(1, 7)]


class System(Local):
    """Started, with the reader, the functions and six articles of the sample corpus."""

    def __init__(self, var: Path, masters: int = 1) -> None:
        super().__init__(var, masters)
        limits_s = {"TIME_LIMIT_S": 5, "VECTOR_TIME_LIMIT_S": 0.5, "GRAPH_TIME_LIMIT_S": 0.5}
        self.env |= {f"KEYMISS_API_{name}": str(patient(limit_s)) for name, limit_s in limits_s.items()}
        self.share_exports()

    def python(self, *args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *args],
            cwd=REPO,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=patient(110),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def client(self, **options: Any) -> RedisCluster:
        node = ClusterNode("127.0.0.1", self.settings.base_port)
        return RedisCluster(startup_nodes=[node], socket_timeout=patient(40), protocol=2, **options)

    def ask(self, question: str) -> httpx.Response:
        url = f"https://localhost:{self.settings.https_port}/qasearch"
        return httpx.post(
            url, json={"search": question, "exhaustive": True}, verify=False, timeout=patient(30)
        )

    def is_complete(self) -> bool:
        """Whether questions are answered, and the API has the concept table (looked for each second)."""
        body = self.ask(QUESTION).json()
        return bool(body.get("results")) and bool(body.get("concepts"))

    def role(self, port: int) -> str:
        with connect(port) as client:
            return str(client.info("replication")["role"])


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    running = System(open_folder(), masters=2)
    try:
        started = running.script("start")
        assert started.returncode == 0, started.stdout + started.stderr
        running.python("-m", "keymiss.models.load", "--nodes", f"127.0.0.1:{running.settings.base_port}")
        running.python(
            "-m", "keymiss.cli", "gears", "upload", *map(str, sorted((REPO / "gears").glob("*.py")))
        )
        nodes = ("--nodes", f"127.0.0.1:{running.settings.base_port}")
        running.python("-m", "keymiss.models.load_encoder", *nodes)
        running.python("-m", "keymiss.cli", "concepts", "load", str(CONCEPTS), *nodes)
        loaded = running.python("-m", "keymiss.cli", "load", *map(str, ARTICLES), *nodes)
        assert "sentences/s" in loaded.stdout
        wait_until(running.is_complete, 60, "an answer with its concepts, through nginx")
        yield running
    finally:
        running.end()


def sentences(system: System) -> list[tuple[str, str, str]]:
    """(tag, article, idx) of every sentence loaded."""
    found = []
    with system.client() as client:
        for key in client.scan_iter("sentence:*", target_nodes=RedisCluster.PRIMARIES):
            article, tag = key.decode().removeprefix("sentence:").rsplit(":", 1)
            found += [(tag, article, idx.decode()) for idx in client.hkeys(key)]
        ports = {client.get_node_from_key(tag).port for tag, _, _ in found}
    assert len(ports) == 2, "sentences on both shards"
    return found


def test_a_question_is_answered(system: System) -> None:
    answer = system.ask(QUESTION)
    assert answer.status_code == 200
    body = answer.json()
    assert body["found"] is True
    assert {concept["name"] for concept in body["concepts"]} >= {"transmission"}
    assert [set(link) >= {"source", "target", "rank"} for link in body["links"]] == [True] * len(
        body["links"]
    )
    best = body["results"][0]
    assert set(best["found_by"]) >= {"bm25", "vectors"}
    assert best["answer"] in best["sentence"]
    assert best["title"]
    assert 0 < best["score"] <= 1
    sentence_key = best["sentencekey"].removeprefix("sentence:")
    tag = sentence_key.split("{")[1].split("}")[0]
    with system.client() as client:
        text = client.get(f"bertqa{{{tag}}}_{sentence_key}_{question_in_key(QUESTION)}")
    assert text.decode() == best["answer"]


def test_a_worker_killed_in_the_middle_of_twenty_misses(system: System) -> None:
    where = sentences(system)
    with system.client() as client:
        before = client.dbsize(target_nodes=RedisCluster.PRIMARIES)
    pid = system.pid_of("worker")
    outcomes: list[Any] = []

    def ask(i: int) -> None:
        tag, article, idx = where[i * len(where) // 20]
        try:
            with system.client() as client:
                outcomes.append(client.get(f"bertqa{tag}_{article}:{tag}:{idx}_What is said, number {i}?"))
        except redis.RedisError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    stand_still(pid)  # so that the misses are all under way when it dies
    for thread in threads:
        thread.start()

    def waiting() -> bool:
        total = 0
        for port in system.settings.ports:
            with connect(port) as client:
                total += client.info("keymiss")["keymiss_clients_waiting"]
        return total == 20

    wait_until(waiting, 20, "twenty clients wait")
    os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join(patient(40))
    assert len(outcomes) == 20
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            assert str(outcome).startswith(("NOWORKER ", "FAILED the worker died")), outcome
        else:
            assert outcome
    wait_until(lambda: system.pid_of("worker") not in (0, pid), 30, "the supervisor restarts it")
    wait_until(
        lambda: system.ask("What carries the virus?").json()["coverage"]["sentences"]["answered"],
        30,
        "it answers again",
    )
    with system.client() as client:
        assert client.dbsize(target_nodes=RedisCluster.PRIMARIES) >= before
    assert '"model_taken_over"' in (system.settings.log / "worker.log").read_text()


def test_a_shard_that_is_shut_down_comes_back_with_everything(system: System) -> None:
    port = next(p for p in system.settings.ports if system.role(p) == "master")
    with system.admin(port) as client:
        tensors = len(list(client.scan_iter("tokenized:*")))
        registrations = client.execute_command("KM.REGISTRATIONS")
        models = list(client.scan_iter("bert-qa*"))
        run_id = client.info("server")["run_id"]
        assert tensors
        assert models
        assert registrations
        client.shutdown(save=True)

    def back() -> bool:
        with connect(port) as client:
            info = client.info()
            return info["run_id"] != run_id and not info["loading"]

    wait_until(back, 30, "the supervisor restarts the shard")
    with system.admin(port) as client:
        assert client.execute_command("KM.REGISTRATIONS") == registrations
        assert len(list(client.scan_iter("tokenized:*"))) == tensors
        assert list(client.scan_iter("bert-qa*")) == models
    wait_until(lambda: full_coverage(system, QUESTION), 40, "every shard answers again")


def full_coverage(system: System, question: str) -> bool:
    answer = system.ask(f"{question}, asked at {time.monotonic()}")
    shards = answer.json().get("coverage", {}).get("shards", {"asked": [], "answered": []})
    if len(shards["asked"]) == 2 and len(shards["answered"]) == 2:
        return True
    raise OSError(answer.text[:2000])  # "not yet", and shown when it never comes


def test_a_promoted_replica_answers_misses(system: System) -> None:
    nodes = [("127.0.0.1", port) for port in system.settings.ports]
    wait_until(lambda: cluster_is_ok(nodes), 40, "the replicas follow, also that of the restarted shard")
    replica = next(p for p in system.settings.ports if system.role(p) == "slave")
    with system.admin(replica) as client:
        client.execute_command("CLUSTER FAILOVER")
    wait_until(lambda: system.role(replica) == "master", 20, "promoted")

    def attached() -> bool:
        with connect(replica) as client:
            return bool(client.info("keymiss")["keymiss_workers"])

    wait_until(attached, 20, "the worker follows")
    with system.client() as client:
        of_both = sentences(system)
        tag, article, idx = next(one for one in of_both if client.get_node_from_key(one[0]).port == replica)
        assert client.get(f"bertqa{tag}_{article}:{tag}:{idx}_Who was promoted?")
    wait_until(lambda: full_coverage(system, QUESTION), 30, "and the API asks it")


def test_the_api_is_reached_through_nginx_or_loopback_only(system: System) -> None:
    with open("/proc/net/tcp") as table:
        listening = {line.split()[1] for line in table if line.split()[3] == "0A"}
    ours = {*system.settings.ports, system.settings.https_port, system.settings.api_port}
    assert ours <= {int(address.split(":")[1], 16) for address in listening}
    assert {a.split(":")[0] for a in listening if int(a.split(":")[1], 16) in ours} == {"0100007F"}
