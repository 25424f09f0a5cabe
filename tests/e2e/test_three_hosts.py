"""Three hosts (network namespaces), each with a master, a replica of another host's master, a worker that is
told `--local`, and an API: as docs/operations.md (several hosts) has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest

from tests.api.processes import QUESTION
from tests.patience import patient
from tests.servers import REPO, Process, module_path, server_binary, wait_until

MASTER, REPLICA, API = 7001, 7002, 8081
HOSTS = 3
ARTICLE = (
    "Infection and fever.\n\nThe viral load of infected children falls within six days of the first fever."
)
PYTHON = {"PYTHONPATH": str(REPO), "KEYMISS_API_MIN_SCORE": "0"}


def can_make_namespaces() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run(["unshare", "--net", "true"]).returncode == 0
    )


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None or not can_make_namespaces(),
    reason="network namespaces want root, iproute2, and a machine that lets them be made",
)


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=patient(20))
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"


class Switch:
    """A bridge in a namespace of its own, that hosts are plugged into."""

    def __init__(self) -> None:
        self.namespace = f"keymiss-{os.getpid()}-switch"

    def __enter__(self) -> Self:
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.namespace, "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        ip("netns", "delete", self.namespace)

    def plug(self, host: Host, state: str) -> None:
        """up or down."""
        ip("-n", self.namespace, "link", "set", host.plug, state)


class Host:
    """A namespace with an address. Its processes end with it."""

    def __init__(self, number: int, switch: Switch) -> None:
        self.number, self.switch = number, switch
        self.namespace = f"keymiss-{os.getpid()}-{number}"
        self.plug = f"plug{number}"
        self.address = f"10.203.0.{number}"
        self.processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        switch = self.switch.namespace
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")
        ip(
            "-n",
            self.namespace,
            "link",
            "add",
            "eth",
            "type",
            "veth",
            "peer",
            "name",
            self.plug,
            "netns",
            switch,
        )
        ip("-n", switch, "link", "set", self.plug, "master", "bridge", "up")
        ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth")
        ip("-n", self.namespace, "link", "set", "eth", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.terminate()
            process.discard()
        ip("netns", "delete", self.namespace)

    def start(self, name: str, *command: str, **env: str) -> None:
        process = self.processes.setdefault(name, Process(f"{name}-{self.number}", {**PYTHON, **env}))
        process.spawn(["ip", "netns", "exec", self.namespace, *command])

    def start_node(self, port: int) -> None:
        options = {
            "bind": self.address,
            "port": str(port),
            "protected-mode": "no",
            "cluster-enabled": "yes",
            "cluster-node-timeout": "3000",
            "cluster-require-full-coverage": "no",
            "save": "",
            "loadmodule": str(module_path()),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.start(f"node-{port}", server_binary(), *words)

    def start_worker(self, nodes: str) -> None:
        self.start("worker", sys.executable, "-m", "keymiss.worker", "--local", "--nodes", nodes)

    def start_api(self, nodes: str) -> None:
        listen = ("--host", self.address, "--port", str(API))
        self.start("api", sys.executable, "-m", "keymiss.api", *listen, "--nodes", nodes)

    def run(self, *command: str) -> str:
        """Of a command that must succeed: what it prints."""
        line = ["ip", "netns", "exec", self.namespace, *command]
        env = {**os.environ, **PYTHON}
        done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=patient(120), cwd=REPO)
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def redis(self, port: int, *words: str) -> str:
        return self.run("redis-cli", "-h", self.address, "-p", str(port), *words)

    def ask(self, question: str = QUESTION) -> dict[str, Any]:
        """Of this host's API."""
        body = json.dumps({"search": question, "exhaustive": True})
        url = f"http://{self.address}:{API}/qasearch"
        again = ("--retry", "30", "--retry-delay", "1", "--retry-connrefused")
        said = self.run(
            "curl", "-s", "-m", "60", *again, "-H", "Content-Type: application/json", "-d", body, url
        )
        reply: dict[str, Any] = json.loads(said)
        return reply

    def served(self) -> dict[str, bool]:
        """Address of a master that the worker is attached to -> whether it stands in there."""
        now: dict[str, bool] = {}
        for line in self.processes["worker"].log_text().splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "started":
                now.clear()
            elif event.get("event") == "shard_attached":
                now[event["shard"]] = event["stands_in"]
            elif event.get("event") == "shard_left":
                now.pop(event["shard"], None)
        return now


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """With a cluster whose master i is on host i and has its replica on the next one; the reader, the
    functions and articles of all shards."""
    with ExitStack() as stack:
        switch = stack.enter_context(Switch())
        found = [stack.enter_context(Host(i + 1, switch)) for i in range(HOSTS)]
        for host in found:
            host.start_node(MASTER)
            host.start_node(REPLICA)
        for host in found:
            for port in (MASTER, REPLICA):
                wait_until(lambda h=host, p=port: "PONG" in h.redis(p, "ping"), 20, "a node answers")
        following = [found[(i + 1) % HOSTS] for i in range(HOSTS)]
        nodes = [(host, MASTER) for host in found] + [(host, REPLICA) for host in following]
        addresses = ",".join(f"{host.address}:{port}" for host, port in nodes)
        first = found[0]
        first.run(sys.executable, "-m", "keymiss.cli", "cluster-create", "--nodes", addresses)
        for host in found:
            host.start_worker(addresses)
        for i, host in enumerate(found):
            own = {f"{host.address}:{MASTER}": False}
            wait_until(lambda h=host, o=own: h.served() == o, 30, f"worker {i} serves its host's master")
        for command in (("models", "load"), ("gears", "upload")):
            first.run(sys.executable, "-m", "keymiss.cli", *command, "--nodes", addresses)
        for number in range(12):
            words = ("-c", "set", f"paragraphs:A{number}", f"{ARTICLE} It was day {number}.")
            first.redis(MASTER, *words)
        for host in found:
            host.start_api(addresses)
        yield found


def is_whole(reply: dict[str, Any], shards: int = HOSTS) -> bool:
    covered = reply.get("coverage", {"sentences": {"asked": 0, "answered": 0}, "shards": {"answered": []}})
    sentences = covered["sentences"]
    all_read = sentences["answered"] == sentences["asked"] > 0
    return all_read and len(covered["shards"]["answered"]) == shards and not covered["shards"]["unindexed"]


def test_each_worker_serves_its_own_host_and_others_stand_in(hosts: list[Host]) -> None:
    """A worker that ends, a host that is cut off, and both back."""
    one, two, three = hosts
    for host in hosts:
        wait_until(lambda h=host: is_whole(h.ask()), 60, "a whole answer of every host's API")
        assert host.served() == {f"{host.address}:{MASTER}": False}

    two.processes["worker"].kill()
    orphan = f"{two.address}:{MASTER}"
    wait_until(lambda: one.served().get(orphan) or three.served().get(orphan), 15, "another stands in")
    wait_until(lambda: is_whole(one.ask("Who has a fever, one worker gone")), 30, "a whole answer")
    nodes = ",".join(f"{host.address}:{MASTER}" for host in hosts)
    two.start_worker(nodes)
    wait_until(lambda: two.served() == {orphan: False}, 30, "its own is back")
    wait_until(lambda: orphan not in {**one.served(), **three.served()}, 30, "the others leave")

    one.switch.plug(three, "down")
    promoted = f"{one.address}:{REPLICA}"
    own = {f"{one.address}:{MASTER}": False, promoted: False}
    wait_until(lambda: one.served() == own, 60, "the replica is a master, and its host's worker serves it")
    wait_until(
        lambda: is_whole(one.ask("Who has a fever, a host gone")), 60, "a whole answer without the host"
    )
    one.switch.plug(three, "up")
    wait_until(
        lambda: "role:slave" in three.redis(MASTER, "info", "replication"), 60, "it comes back as a replica"
    )
    wait_until(lambda: is_whole(three.ask("Who has a fever, the host back")), 60, "a whole answer of its API")
    assert one.served() == own
