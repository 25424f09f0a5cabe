"""GET /metrics of a worker after known traffic on a cluster: every figure is there, with the right value."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ResponseError

from keymiss import __version__, keys
from keymiss.worker.job import JobKind, JobStatus
from keymiss.worker.lifecycle import EXIT_USAGE
from tests.api.processes import shard_tags
from tests.hand_worker import Asker
from tests.patience import patient, slower
from tests.servers import (
    REPO,
    RedisClusterServers,
    RedisServer,
    WorkerProcess,
    free_port,
    keymiss_info,
    wait_until,
)

SCRIPT = """
import time

def say(record):
    override_reply('said')

def fail(record):
    raise ValueError('no luck')

def outlive_its_clients(record):
    time.sleep(1)
    override_reply('late')

def spin(record):
    until_s = time.monotonic() + SPIN_S
    while time.monotonic() < until_s:
        pass
    override_reply('spun')

for prefix, function in {'say:': say, 'fail:': fail, 'late:': outlive_its_clients, 'spin:': spin}.items():
    GB().map(function).register(prefix, eventTypes=['keymiss'], commands=['get'], mode='async_local')
GB().map(lambda record: record).register('e:', eventTypes=['set'], mode='async')
""".replace("SPIN_S", str(slower(3)))
ROWS, WIDTH = 4, 7
TAGS = shard_tags(2)  # of the fixture `cluster`

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Figures:
    """Every sample by its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=patient(10)) as reply:
        families = text_string_to_metric_families(reply.read().decode())
        return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def value(figures: Figures, name: str, /, **labels: Any) -> float:
    return figures[f"keymiss_worker_{name}", frozenset((k, str(v)) for k, v in labels.items())]


def label_values(figures: Figures, name: str, label: str) -> set[str]:
    return {dict(labels)[label] for n, labels in figures if n == f"keymiss_worker_{name}"}


@contextmanager
def measured(servers: RedisServer | RedisClusterServers, *args: str) -> Iterator[int]:
    """A worker that serves metrics, on the port given."""
    port = free_port()
    with WorkerProcess(servers, "--backend", "dummy", "--metrics-port", str(port), *args):
        yield port


def upload(server: RedisServer) -> None:
    with server.client() as client:
        assert client.execute_command("RG.PYEXECUTE", SCRIPT) == b"OK"


def store_model(client: Any, key: str, **spec: Any) -> int:
    """Stores a dummy model; returns the size of its blob."""
    blob = json.dumps({"outputs": 1, **spec}).encode()
    assert client.execute_command("AI.MODELSTORE", key, "TORCH", "CPU", "BLOB", blob) == b"OK"
    return len(blob)


def run_model(client: Any, key: str, tag: str, rows: int = ROWS) -> Any:
    client.execute_command("AI.TENSORSET", f"in{{{tag}}}", "INT64", rows, WIDTH)
    return client.execute_command(
        "AI.MODELEXECUTE", key, "INPUTS", 1, f"in{{{tag}}}", "OUTPUTS", 1, f"out{{{tag}}}"
    )


@pytest.fixture(scope="module")
def uploaded(cluster: RedisClusterServers) -> RedisClusterServers:
    """A cluster that knows the functions and models; no worker is attached."""
    with WorkerProcess(cluster, "--backend", "dummy"):
        upload(cluster.masters[0])
    for tag in TAGS:
        with cluster.server_of(f"{{{tag}}}").client() as client:
            store_model(client, keys.model_key(tag))
            client.config_set("keymiss.noworker-grace-ms", 30000)
            wait_until(lambda: keymiss_info(client)["workers"] == 0, 10, "the worker has gone")
    return cluster


def test_known_traffic(uploaded: RedisClusterServers) -> None:
    server = uploaded.server_of(f"{{{TAGS[0]}}}")
    client = server.client()
    waiting = [Asker(server, "GET", f"say:{i}{{{TAGS[0]}}}") for i in range(3)]
    wait_until(lambda: keymiss_info(client)["clients_waiting"] == 3, 10, "three questions wait")
    with measured(uploaded, "--name", "known", "--job-threads", "5") as port:
        assert [asker.result() for asker in waiting] == [b"said"] * 3
        with pytest.raises(ResponseError, match="FAILED ValueError: no luck"):
            client.get(f"fail:{{{TAGS[0]}}}")
        client.config_set("keymiss.miss-timeout-ms", 100)
        with pytest.raises(ResponseError, match="TIMEOUT"):
            client.get(f"late:{{{TAGS[0]}}}")
        client.config_set("keymiss.miss-timeout-ms", 30000)
        for i in range(2):
            client.set(f"e:{i}{{{TAGS[0]}}}", "x")
        size_bytes = store_model(client, f"slow{{{TAGS[0]}}}", delay_ms=30)
        size_bytes += store_model(client, keys.model_key(TAGS[0]))
        store_model(client, f"broken{{{TAGS[0]}}}", fail="no luck")
        for tag in TAGS:
            with uploaded.server_of(f"{{{tag}}}").client() as other:
                assert run_model(other, keys.model_key(tag), tag) == b"OK"
        assert run_model(client, keys.model_key(TAGS[0]), TAGS[0], rows=100) == b"OK"
        assert run_model(client, f"slow{{{TAGS[0]}}}", TAGS[0]) == b"OK"
        for _ in range(2):
            with pytest.raises(ResponseError, match=r"^the model run failed: no luck"):
                run_model(client, f"broken{{{TAGS[0]}}}", TAGS[0])
        upload(server)
        ids = [row[0] for row in client.execute_command("KM.REGISTRATIONS")]
        assert client.execute_command("RG.UNREGISTER", ids[-1]) == b"OK"
        wanted = {
            (JobKind.MISS, JobStatus.DONE): 3,
            (JobKind.MISS, JobStatus.FAILED): 1,
            (JobKind.MISS, JobStatus.LATE): 1,
            (JobKind.EVENT, JobStatus.DONE): 2,
            (JobKind.MODEL, JobStatus.DONE): 4,
            (JobKind.MODEL, JobStatus.FAILED): 2,
            (JobKind.LOOK, JobStatus.DONE): 3,
            (JobKind.SCRIPT, JobStatus.DONE): 1,
            (JobKind.UNREGISTER, JobStatus.DONE): 1,
        }

        def ended(figures: Figures) -> dict[tuple[JobKind, JobStatus], float]:
            every = [(kind, status) for kind in JobKind for status in JobStatus]
            return {e: value(figures, "jobs_total", kind=e[0], status=e[1]) for e in every}

        every_way = dict.fromkeys([(k, s) for k in JobKind for s in JobStatus], 0) | wanted
        wait_until(lambda: ended(scrape(port)) == every_way, 10, f"jobs ended as {wanted}")
        figures = scrape(port)
        client.close()

    jobs = sum(wanted.values())
    assert value(figures, "jobs_pulled_total") == value(figures, "pull_jobs_sum") == jobs
    # the three that waited for the worker came in one pull
    assert value(figures, "pull_jobs_bucket", le="4.0") - value(figures, "pull_jobs_bucket", le="2.0") == 1
    for kind in JobKind:
        of_kind = sum(n for (k, _), n in wanted.items() if k is kind)
        assert value(figures, "job_duration_seconds_count", kind=kind) == of_kind
        assert value(figures, "job_queue_seconds_count", kind=kind) == of_kind
    # three waited while an interpreter started; one slept a second
    assert 0.3 < value(figures, "job_queue_seconds_sum", kind="miss") < 90
    assert 1 <= value(figures, "job_duration_seconds_sum", kind="miss") < 10
    assert value(figures, "job_duration_seconds_bucket", kind="miss", le="0.5") == 4
    assert value(figures, "jobs_running") == 0
    assert value(figures, "job_threads") == 5
    assert value(figures, "shards_attached") == 2

    expected = {"bert-qa": (3, ROWS + ROWS + 100, 0), "slow": (1, ROWS, 0), "broken": (0, 0, 2)}
    expected |= dict.fromkeys(("bert-qa-lower", "bert-encoder", "other"), (0, 0, 0))
    for model, (runs, samples, errors) in expected.items():
        for name in ("model_run_seconds", "model_queue_seconds", "model_batch_size"):
            assert value(figures, f"{name}_count", model=model) == runs
        assert value(figures, "model_batch_size_sum", model=model) == samples
        assert value(figures, "model_tokens_total", model=model) == samples * WIDTH
        assert value(figures, "model_errors_total", model=model) == errors
        assert value(figures, "model_batch_size_bucket", model=model, le="4.0") == min(runs, 2)
    assert label_values(figures, "model_errors_total", "model") == set(expected)
    assert 0.03 <= value(figures, "model_run_seconds_sum", model="slow") < 5
    assert 0 <= value(figures, "model_queue_seconds_sum", model="slow") < 5
    # bert-qa of both shards is one model; the broken one could be loaded
    assert value(figures, "models_loaded") == 3
    assert value(figures, "models_bytes") == size_bytes + len(json.dumps({"outputs": 1, "fail": "no luck"}))
    assert value(figures, "info", name="known", version=__version__, backend="dummy") == 1
    assert figures["process_resident_memory_bytes", frozenset()] > 1e6
    assert not [name for name, _ in figures if name.endswith("_created")]


def test_everything_known_is_there_before_the_first_job(uploaded: RedisClusterServers) -> None:
    with measured(uploaded) as port:
        figures = scrape(port)
    for kind in JobKind:
        assert value(figures, "job_queue_seconds_count", kind=kind) == 0
        for status in JobStatus:
            assert value(figures, "jobs_total", kind=kind, status=status) == 0
    for model in ("bert-qa", "bert-qa-lower", "bert-encoder", "other"):
        assert value(figures, "model_run_seconds_count", model=model) == 0
    for name in ("jobs_pulled_total", "pull_jobs_count", "models_loaded", "models_bytes"):
        assert value(figures, name) == 0


def test_any_number_of_models_has_a_bounded_number_of_labels(uploaded: RedisClusterServers) -> None:
    tag = TAGS[0]
    with measured(uploaded) as port, uploaded.server_of(f"{{{tag}}}").client() as client:
        for number in range(30):
            store_model(client, f"model-{number}{{{tag}}}")
            run_model(client, f"model-{number}{{{tag}}}", tag)
        figures = scrape(port)
    models = label_values(figures, "model_tokens_total", "model")
    assert len(models) == 21
    assert value(figures, "model_tokens_total", model="other") == (30 - 17) * ROWS * WIDTH
    assert sum(value(figures, "model_batch_size_count", model=model) for model in models) == 30


def test_it_answers_while_every_thread_computes(uploaded: RedisClusterServers) -> None:
    server = uploaded.server_of(f"{{{TAGS[0]}}}")
    with measured(uploaded, "--job-threads", "4") as port:
        askers = [Asker(server, "GET", f"spin:{i}{{{TAGS[0]}}}") for i in range(4)]
        wait_until(lambda: value(scrape(port), "jobs_running") == 4, 10, "it says that four compute")
        assert [asker.result() for asker in askers] == [b"spun"] * 4


def test_a_shard_that_is_gone_is_not_attached(server: RedisServer) -> None:
    with measured(server) as port:
        wait_until(lambda: value(scrape(port), "shards_attached") == 1, 10, "attached")
        server.kill()
        wait_until(lambda: value(scrape(port), "shards_attached") == 0, 10, "the shard is missed")
        server.start()
        wait_until(lambda: value(scrape(port), "shards_attached") == 1, 20, "attached again")


def worker_that_cannot_serve(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keymiss.worker", "--nodes", f"127.0.0.1:{free_port()}", *args],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=patient(60),
    )


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = worker_that_cannot_serve("--backend", "dummy", "--metrics-port", str(port))
    assert ended.returncode == EXIT_USAGE
    assert f"metrics cannot be served at 127.0.0.1:{port}: Address already in use" in ended.stderr


@pytest.mark.parametrize("port", ["65536", "x", "-1"])
def test_a_bad_port_is_an_error(port: str) -> None:
    ended = worker_that_cannot_serve("--metrics-port", port)
    assert ended.returncode == EXIT_USAGE
    assert "--metrics-port" in ended.stderr


def listening(pid: int) -> set[str]:
    """The process's sockets that listen."""
    tables = "".join(Path("/proc/net", name).read_text() for name in ("tcp", "tcp6"))
    rows = [line.split() for line in tables.splitlines()]
    listen = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    return listen & {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}


def test_it_listens_only_when_asked(server: RedisServer) -> None:
    with WorkerProcess(server, "--backend", "dummy") as silent:
        assert listening(silent.pid) == set()
    with WorkerProcess(server, "--backend", "dummy", "--metrics-port", str(free_port())) as worker:
        assert len(listening(worker.pid)) == 1
