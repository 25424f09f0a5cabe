"""The real composition of docker-compose.yml, under a project name, ports and a subnet of its own.

Environment:
    DOCKER_HOST                  the engine, as for docker
    KEYMISS_TEST_HEALTH_COMMAND  runs every container's health check once, for an engine that does not by
                                 itself (Podman without systemd); called again and again while the tests run
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.servers import REPO, free_port, wait_until

COMMAND_TIMEOUT_S = 1500.0
ASK_TIMEOUT_S = 30.0
HEALTH_EVERY_S = 1.0

WITHOUT_GRAFANA = """\
services:
  grafana:
    profiles: [left-out]
"""
"""Grafana's image comes from a registry, which may be out of reach: it is left out here."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A line of CLUSTER NODES: address without port, role, whether it has slots and is thought alive."""

    address: str
    master: bool
    slots: str
    alive: bool


class Composition:
    """`with Composition() as running:` builds, starts and loads all; at the end nothing is left of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="keymiss-compose-"))
        self.project = f"keymisstest{os.getpid()}"
        self.subnet = f"10.{random.randint(200, 250)}.{random.randint(1, 254)}"
        self.port = free_port()
        override = self.folder / "without-grafana.yml"
        override.write_text(WITHOUT_GRAFANA)
        files = ["docker-compose.yml", str(override)]
        if "podman" in self._run(["docker", "version"]).lower():
            files.insert(1, "compose.podman.yml")
        self.env = {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": ":".join(files),
            "KEYMISS_HTTPS_PORT": str(self.port),
            "KEYMISS_SUBNET": self.subnet,
            "KEYMISS_TAG": self.project,  # images of its own, which are removed
        }
        self._stop = threading.Event()
        self._health = threading.Thread(target=self._check_health, daemon=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @cached_property
    def _compose(self) -> list[str]:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
        if plugin.returncode == 0:
            return ["docker", "compose"]
        assert shutil.which("docker-compose"), "neither docker compose nor docker-compose is installed"
        return ["docker-compose"]

    def _run(self, command: Sequence[str], check: bool = True) -> str:
        done = subprocess.run(
            command,
            cwd=REPO,
            env={**os.environ, **getattr(self, "env", {})},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n"
                f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
            )
        return done.stdout

    def compose(self, *arguments: str) -> str:
        """Runs docker-compose with these arguments and returns its stdout. AssertionError when it fails."""
        return self._run([*self._compose, *arguments])

    def bootstrap(self) -> str:
        """./bootstrap_benchmark.sh --docker; what it prints."""
        return self._run(["./bootstrap_benchmark.sh", "--docker"])

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        return self.compose("ps", "-a", "-q", service).split()[0]

    def engine(self, *arguments: str) -> str:
        """Runs docker with these arguments."""
        return self._run(["docker", *arguments])

    def ask(self, question: str, request_id: str | None = None) -> httpx.Response:
        """POST /qasearch through nginx; all shards are asked."""
        headers = {"X-Request-ID": request_id} if request_id else {}
        with httpx.Client(verify=False, timeout=ASK_TIMEOUT_S) as client:  # the certificate is its own
            return client.post(
                f"{self.url}/qasearch", json={"search": question, "exhaustive": True}, headers=headers
            )

    def nodes(self) -> list[ClusterNode]:
        """The cluster as a shard that lives tells it."""
        found = []
        for line in self.compose(
            "run", "--rm", "-T", "cli", "-h", self.alive_shard(), "cluster", "nodes"
        ).splitlines():
            fields = line.split()
            if len(fields) < 8 or "@" not in fields[1]:
                continue
            flags = fields[2].split(",")
            found.append(
                ClusterNode(
                    fields[1].split(":")[0],
                    "master" in flags,
                    " ".join(fields[8:]),
                    "fail" not in flags and "fail?" not in flags,
                )
            )
        return found

    def alive_shard(self) -> str:
        """The name of a shard whose container runs."""
        for number in range(1, 9):
            state = self.engine("inspect", "-f", "{{.State.Running}}", self.container(f"shard-{number}"))
            if state.strip() == "true":
                return f"shard-{number}"
        raise AssertionError("no shard runs")

    def shard_at(self, address: str) -> str:
        """The service's name: shard n has the subnet's address 10 + n."""
        return f"shard-{int(address.rsplit('.', 1)[1]) - 10}"

    def get_in(self, service: str, port: int, path: str) -> Any:
        """JSON from a port that a service listens on inside only."""
        script = (
            f"exec 3<>/dev/tcp/127.0.0.1/{port}; "
            f"printf 'GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3; cat <&3"
        )
        return json.loads(self.compose("exec", "-T", service, "bash", "-c", script).partition("\n\n")[2])

    def _check_health(self) -> None:
        command = os.environ.get("KEYMISS_TEST_HEALTH_COMMAND")
        while command and not self._stop.wait(HEALTH_EVERY_S):
            subprocess.run(command, shell=True, capture_output=True)

    def remove(self) -> None:
        """Containers, volumes, networks and images of this project, and nothing else."""
        images = set(self.compose("config").split()) if self._compose else set()
        self._run([*self._compose, "down", "-v", "--remove-orphans"], check=False)
        for image in sorted(
            word.strip("'\"") for word in images if word.strip("'\"").endswith(f":{self.project}")
        ):
            self._run(["docker", "rmi", "-f", image], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self._health.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(
                self._run([*self._compose, "logs", "--no-color", "--tail", "40"], check=False)[-20000:]
            )
        self.remove()
        self._stop.set()
        self._health.join()


def wait_for_cluster(running: Composition, timeout_s: float = 60.0) -> None:
    """Until four masters have slots, four replicas follow, and all are alive."""

    def whole() -> bool:
        nodes = running.nodes()
        return (
            len(nodes) == 8
            and all(node.alive for node in nodes)
            and sum(node.master and bool(node.slots) for node in nodes) == 4
            and sum(not node.master for node in nodes) == 4
        )

    wait_until(whole, timeout_s, "4 masters and 4 replicas", pause_s=1.0)
