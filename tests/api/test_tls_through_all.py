"""A cluster that speaks TLS only: articles go in, questions are answered, a failover is followed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keymiss.client import Answers
from keymiss.models import load
from tests.api.processes import ApiProcess
from tests.patience import patient
from tests.servers import (
    NEEDS_TLS,
    REPO,
    RedisClusterServers,
    RedisServer,
    ServerTls,
    WorkerProcess,
    wait_until,
)

pytestmark = NEEDS_TLS
QUESTION = "Who performs viral transmission among adults?"


def keymiss(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keymiss.cli", *args],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO), **env},
        capture_output=True,
        text=True,
        timeout=patient(100),
    )


def whole(api: ApiProcess, question: str) -> Answers | None:
    reply = api.ask(question)
    sentences = reply.coverage.sentences
    return reply if 0 < sentences.answered == sentences.asked else None


def test_articles_questions_and_a_failover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ServerTls(tmp_path)
    cluster = RedisClusterServers("--cluster-require-full-coverage", "no", masters=3, replicas=1, tls=tls)
    env = tls.env | {"KEYMISS_NODES": cluster.addresses, "KEYMISS_VAR": str(tmp_path / "var")}
    with cluster, WorkerProcess(cluster, env=tls.env) as worker:
        monkeypatch.setenv("KEYMISS_TLS_CA", tls.trusted.ca)
        assert load.main(["--model", "models/reader", "--nodes", cluster.addresses]) == 0
        for words in (("gears", "upload"), ("load", "data/sample")):
            done = keymiss(*words, env=env)
            assert done.returncode == 0, done.stdout + done.stderr
        with ApiProcess(cluster.addresses, wait_indexed=3, env=tls.env) as api:
            reply = wait_until(lambda: whole(api, QUESTION), 60, "answers from every shard")
            assert reply is not None
            assert reply.results[0].answer in reply.results[0].sentence

            cluster.masters[0].kill()
            wait_until(lambda: whole(api, QUESTION), 30, "all answer after a failover")
            wait_until(lambda: whole(api, "How long is the virus found in stool?"), 30, "the worker, too")
            wait_until(api.ready, 30, "ready")
            said = keymiss("status", env=env)
            assert "no answer" in said.stdout or "refused" in said.stdout, said.stdout + said.stderr
            assert cluster.masters[0].address in said.stdout
        assert worker.alive
        with cluster.client() as client:
            for node in client.get_nodes():
                assert client.get_redis_connection(node).info("keymiss")["keymiss_jobs_lost"] == 0


def test_a_command_without_the_authority(tmp_path: Path) -> None:
    with RedisServer(tls=ServerTls(tmp_path)) as server:
        for words in (("status",), ("gears", "upload")):
            done = keymiss(*words, "--nodes", server.address, env={"KEYMISS_VAR": str(tmp_path / "var")})
            assert done.returncode == 2, done.stdout + done.stderr
            said = " ".join((done.stdout + done.stderr).split())
            assert f"{server.address} speaks TLS: set KEYMISS_TLS_CA" in said


def test_the_api_and_the_worker_without_the_authority(tmp_path: Path) -> None:
    with RedisClusterServers(masters=1, tls=ServerTls(tmp_path)) as cluster:
        with ApiProcess(cluster.addresses) as api:
            assert api.missing() == [
                "the cluster: the API and it do not agree on TLS: the API's log says what to do"
            ]
            assert "speaks TLS: set KEYMISS_TLS_CA" in api.log_text()
        worker = WorkerProcess(cluster).start(wait=False)
        try:
            assert worker.process
            assert worker.process.wait(patient(20)) == 2
            assert "speaks TLS: set KEYMISS_TLS_CA" in worker.log_text()
        finally:
            worker.terminate()
            worker.discard()
