"""Options, time limits and fixtures that all tests share; the servers themselves are in servers.py."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, get_args

import certifi
import httpx
import pytest
import pytest_timeout
import redis.utils

from keymiss.settings import ServerKind
from tests.keeper import RUN, hung_before, keeper
from tests.patience import patient
from tests.scheduling import ByGroup, first_the_heavy, is_long, is_slow, missing
from tests.servers import Process, RedisClusterServers, RedisServer, WorkerProcess, take_logs

HANGS_AFTER_S = 30.0
"""How long a test may take to end after its time limit."""


def pytest_addoption(parser: pytest.Parser) -> None:
    kinds = get_args(ServerKind)
    parser.addoption("--server", choices=kinds, help="the server to test with (default: redis)")
    parser.addoption("--quick", action="store_true", help="leave out what tests/scheduling.py says is slow")
    parser.addoption("--long", action="store_true", help="run what tests/scheduling.py says is long, too")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # what is collected (in pytest's sense) stays; half of that time went into looking at it
    kind = config.getoption("--server")
    if kind:
        os.environ["KEYMISS_TEST_SERVER"] = kind
    if RUN not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="keymiss-tests-", ignore_cleanup_errors=True)
        os.environ[RUN] = folder.name
        config.add_cleanup(folder.cleanup)
    if not config.getoption("numprocesses", None):  # else the workers of pytest-xdist run the tests
        keeper()  # now, while standard error is not captured
    _be_patient_with_http()
    _read_authorities_once()
    _look_redis_py_s_version_up_once()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def _be_patient_with_http() -> None:
    """httpx's limit of 5 s, where a test names none, is one object that all of it shares."""
    limit = inspect.signature(httpx.get).parameters["timeout"].default
    limit.connect = limit.read = limit.write = limit.pool = patient(30)


def _read_authorities_once() -> None:
    """httpx reads some hundred of them anew for each request that is not made by a client, and for http too:
    it took a third of the tests' time."""
    make, everybodys = ssl.create_default_context, {certifi.where(), os.environ.get("SSL_CERT_FILE")}
    known = functools.cache(lambda file: make(cafile=file))

    def context(*args: Any, **options: Any) -> ssl.SSLContext:
        if not args and options.keys() == {"cafile"} and options["cafile"] in everybodys:
            return known(options["cafile"])
        return make(*args, **options)

    ssl.create_default_context = context


def _look_redis_py_s_version_up_once() -> None:
    """It does so for each client that is made."""
    redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if gone := missing():
        raise pytest.UsageError(f"tests/scheduling.py names what is not there: {', '.join(gone)}")
    if config.getoption("--quick"):
        _leave_out(config, items, is_slow)
    if not config.getoption("--long"):
        _leave_out(config, items, is_long)
    first_the_heavy(items)


def _leave_out(config: pytest.Config, items: list[pytest.Item], which: Callable[[pytest.Item], bool]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if which(item)])
    items[:] = [item for item in items if not which(item)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup | None:
    return ByGroup(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    """pytest-timeout's, longer on a slow machine, with the keeper behind it."""
    limit_s = patient(settings.timeout)
    keeper().test(item.nodeid, limit_s + patient(HANGS_AFTER_S))
    return bool(pytest_timeout.pytest_timeout_set_timer(item, settings._replace(timeout=limit_s)))


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """pytest-timeout's own comes after it."""
    keeper().no_test()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """pytest-xdist gives the tests of a process that has ended to another one."""
    if hung_before(item.nodeid):
        pytest.fail("it hung, and cost a process of the tests: it is not run again", pytrace=False)


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
