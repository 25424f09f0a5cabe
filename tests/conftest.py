"""Options and fixtures that all tests share; the servers themselves are in servers.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers import Process, RedisClusterServers, RedisServer, WorkerProcess, take_logs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=("redis", "valkey"), help="the server to test with (default: redis)")


def pytest_configure(config: pytest.Config) -> None:
    kind = config.getoption("--server")
    if kind:
        os.environ["KEYMISS_TEST_SERVER"] = kind


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows the logs of the servers and workers that run."""
    report = yield
    if report.failed and Process.seen:
        report.sections.append(("logs of the servers", take_logs()))
    return report


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One shard, not in a cluster, with the module; a new one for each test."""
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    """A cluster of two masters with a replica each, shared by the tests of one file."""
    with RedisClusterServers(masters=2, replicas=1) as running:
        yield running


@pytest.fixture
def worker(server: RedisServer) -> Iterator[WorkerProcess]:
    """A worker attached to the fixture `server`."""
    with WorkerProcess(server) as running:
        yield running


@pytest.fixture(scope="module")
def cluster_worker(cluster: RedisClusterServers) -> Iterator[WorkerProcess]:
    """A worker attached to every shard of the fixture `cluster`."""
    with WorkerProcess(cluster) as running:
        yield running
