"""keymiss cluster-create: empty nodes become one cluster, once; wrong numbers of nodes are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from keymiss.local.cluster_creation import cluster_is_ok
from tests.patience import patient
from tests.servers import REPO, RedisServer


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RedisServer(cluster=True)) for _ in range(4)]


def create(servers: list[RedisServer], *arguments: str) -> subprocess.CompletedProcess[str]:
    nodes = ",".join(f"localhost:{server.port}" for server in servers)  # a name, as in containers
    return subprocess.run(
        [sys.executable, "-m", "keymiss.cli", "cluster-create", "--nodes", nodes, *arguments],
        capture_output=True,
        text=True,
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        timeout=patient(100),
    )


def test_a_number_that_cannot_be_shared_is_refused(servers: list[RedisServer]) -> None:
    refused = create(servers, "--replicas", "2")
    assert refused.returncode == 2
    assert "4 nodes cannot be masters with 2 replica(s) each" in refused.stderr


def test_made_once_and_left_alone_after_that(servers: list[RedisServer]) -> None:
    made = create(servers, "--replicas", "1")
    assert (made.returncode, made.stderr) == (0, "")
    assert "2 masters, 1 replica(s) each: cluster created" in made.stdout
    assert cluster_is_ok([("127.0.0.1", server.port) for server in servers])
    before = [server.client().execute_command("CLUSTER", "MYID") for server in servers]
    roles = [server.client().info("replication")["role"] for server in servers]
    assert roles == ["master", "master", "slave", "slave"]
    again = create(servers, "--replicas", "1")
    assert again.returncode == 0
    assert "cluster there already" in again.stdout
    assert [server.client().execute_command("CLUSTER", "MYID") for server in servers] == before


def test_a_node_that_is_away_is_said(servers: list[RedisServer]) -> None:
    away = RedisServer(cluster=True)  # not started
    failed = create([*servers[:1], away], "--replicas", "1", "--timeout-s", "2")
    assert failed.returncode == 1
    assert f"localhost:{away.port}" in failed.stderr
