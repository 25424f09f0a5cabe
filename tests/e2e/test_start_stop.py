"""scripts/start.sh and stop.sh: all comes up, twice is no harm, exactly that is stopped, data stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from keymiss.cluster.credentials import Credentials
from keymiss.local.preflight import port_in_use
from keymiss.local.processes import Supervisor, processes_of
from keymiss.local.redis_users import password_of
from keymiss.local.system import http_ok
from keymiss.settings import Settings
from tests.keeper import keeper
from tests.patience import patient
from tests.servers import REPO, connect, free_port, keymiss_info, open_folder, wait_until


def free_base_port(n: int) -> int:
    """A port p so that p to p + n - 1 and their bus ports are free."""
    while True:
        port = free_port()
        following = [port + bus + i for i in range(1, n) for bus in (0, 10000)]
        if not any(port_in_use("127.0.0.1", number, passing_s=0) for number in following):
            return port


class Local:
    """A local system of some masters with one replica each, in a folder of its own."""

    def __init__(self, var: Path, masters: int = 1) -> None:
        self.env = {
            "KEYMISS_VAR": str(var),
            "KEYMISS_BASE_PORT": str(free_base_port(2 * masters)),
            "KEYMISS_API_PORT": str(free_port()),
            "KEYMISS_HTTPS_PORT": str(free_port()),
            "KEYMISS_WORKER_METRICS_PORT": str(free_port()),
            "KEYMISS_MASTERS": str(masters),
            "KEYMISS_REPLICAS": "1",
            "KEYMISS_SERVER": os.environ.get("KEYMISS_TEST_SERVER") or "redis",
        }
        self.settings = Settings.from_env(self.env)
        keeper().begins_system(self.settings.var)
        self.supervisor = Supervisor(self.settings)

    def end(self) -> None:
        """Shows its logs, where a test failed, and stops it."""
        for log in sorted(self.settings.log.glob("*.log")):
            if log.exists():  # nginx's are links to files that it makes
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}\n")
        self.supervisor.stop()

    def script(self, name: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(REPO / "scripts" / f"{name}.sh"), *args],
            capture_output=True,
            text=True,
            env={**os.environ, **self.env, **env},
            timeout=patient(110),
        )

    def pid_of(self, program: str) -> int:
        """0 while it does not run."""
        state, description = self.supervisor.states()[program]
        return int(description.split()[1].rstrip(",")) if state == "RUNNING" else 0

    def admin(self, port: int) -> redis.Redis:
        """A client of a node that may everything."""
        return connect(port, **Credentials("admin", password_of(self.settings, "admin")).login)

    def workers(self) -> int:
        with connect(self.settings.base_port) as client:
            return int(keymiss_info(client)["workers"])

    def share_exports(self) -> None:
        """Its exported models are those of this checkout: to make them takes half a minute and more."""
        shared = REPO / "var" / "models"
        shared.mkdir(parents=True, exist_ok=True)
        self.settings.var.mkdir(exist_ok=True)
        (self.settings.var / "models").symlink_to(shared)


@pytest.fixture
def local() -> Iterator[Local]:
    """Not started yet; stopped at the end whatever happened."""
    system = Local(open_folder())
    yield system
    system.end()


def test_start_twice_kill_stop_and_start_again(local: Local) -> None:
    started = local.script("start")
    assert started.returncode == 0, started.stdout + started.stderr
    assert "cluster created" in started.stdout
    assert http_ok(f"https://localhost:{local.settings.https_port}/livez")
    pids = {name: local.pid_of(name) for name in local.supervisor.states()}
    assert set(pids) == {f"redis:{port}" for port in local.settings.ports} | {"worker", "api", "nginx"}

    again = local.script("start")
    assert again.returncode == 0
    assert "up already" in again.stdout
    assert {name: local.pid_of(name) for name in local.supervisor.states()} == pids
    assert local.script("status").returncode == 0

    os.kill(pids["worker"], signal.SIGKILL)
    wait_until(lambda: local.pid_of("worker") not in (0, pids["worker"]), 30, "a new worker")
    wait_until(lambda: local.workers() == 1, 30, "the new worker attached")

    with local.admin(local.settings.base_port) as client:
        client.set("kept", "value")
    stopped = local.script("stop")
    assert stopped.returncode == 0
    assert "stopped" in stopped.stdout
    assert processes_of(local.settings.var) == []
    assert "not running" in local.script("stop").stdout
    assert local.script("status").returncode == 1

    wrong = local.script("start", "--replicas", "0")
    assert wrong.returncode == 1
    assert "1 masters, 1 replicas" in wrong.stderr
    assert local.script("start").returncode == 0
    with connect(local.settings.base_port) as client:
        assert client.get("kept") == b"value"
        assert client.info("replication")["connected_slaves"] == 1


def test_stop_ends_what_a_killed_supervisor_left_and_nothing_else(local: Local) -> None:
    assert local.script("start").returncode == 0
    other = subprocess.Popen(["sleep", "600"])
    try:
        os.kill(int((local.settings.run / "supervisord.pid").read_text()), signal.SIGKILL)
        assert len(processes_of(local.settings.var)) >= 5
        assert "stopped" in local.script("stop").stdout
        assert processes_of(local.settings.var) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_port_in_use_is_said_before_anything_is_started(local: Local) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", local.settings.api_port))
        taken.listen(1)
        refused = local.script("start")
    assert refused.returncode == 1
    assert f"Port {local.settings.api_port} (for the API) is in use" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not local.settings.data.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYMISS_MASTERS", "0"),
        ("KEYMISS_REPLICAS", "x"),
        ("KEYMISS_BASE_PORT", "99999"),
        ("KEYMISS_NODES", "nohost"),
        ("KEYMISS_SERVER", "memcached"),
        ("KEYMISS_USER", "no-such-user"),
    ],
)
def test_a_bad_setting_is_one_sentence(local: Local, name: str, value: str) -> None:
    refused = local.script("start", **{name: value})
    assert refused.returncode == 2
    assert name in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("args", [("--masters",), ("--nonsense", "1"), ("extra",)])
def test_wrong_arguments_show_the_usage(local: Local, args: tuple[str, ...]) -> None:
    refused = local.script("start", *args)
    assert refused.returncode == 2
    assert "usage:" in refused.stderr
