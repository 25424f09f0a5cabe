"""`keymiss status` on a real cluster: once, as JSON, again and again, with a node that is away."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from keymiss.addresses import parse_addresses
from keymiss.cli.status_nodes import NODE_TIMEOUT_S, ClusterAsker
from keymiss.cluster.credentials import NO_CREDENTIALS
from keymiss.keys import tag_for_slot
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, WorkerProcess, stand_still, wait_until

ANSWER = """
def answer(record):
    if 'fails' in record['key']:
        raise ValueError('this one fails')
    execute('SET', record['key'], 'answer')
    override_reply('answer')

GB('KeysReader', desc='answers').foreach(answer).register(
    prefix='ask', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""
TAG = tag_for_slot(0)
ENV = {**os.environ, "PYTHONPATH": str(REPO), "TERM": "xterm-256color"}


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers("--cluster-require-full-coverage", "no", masters=3, replicas=1) as running:
        yield running


@pytest.fixture(scope="module")
def nodes(servers: RedisClusterServers) -> Iterator[str]:
    """One node's address: the others are found. One miss, two hits and a failure on the first shard."""
    with WorkerProcess(servers, "--backend", "dummy"), servers.client() as client:
        node = client.get_primaries()[0]
        assert client.execute_command("RG.PYEXECUTE", ANSWER, target_nodes=node) == b"OK"
        for key in (f"ask{{{TAG}}}_this",) * 3:
            assert client.get(key) == b"answer"
        with pytest.raises(ResponseError, match="this one fails"):
            client.get(f"ask{{{TAG}}}_fails")
        yield servers.nodes[0].address


def status(*arguments: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keymiss.cli", "status", *arguments],
        env={**ENV, "COLUMNS": str(columns)},
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=patient(60),
    )


def as_json(nodes: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(status("--nodes", nodes, "--json").stdout)
    return found


@pytest.mark.parametrize("columns", [80, 120])
def test_once_at_both_widths(servers: RedisClusterServers, nodes: str, columns: int) -> None:
    done = status("--nodes", nodes, columns=columns)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0] == "● cluster ok, 16384 of 16384 slots, 3 masters, 3 replicas"
    for node in servers.nodes:
        (line,) = (line for line in lines if node.address in line)
        assert ("master" if node in servers.masters else "replica") in line
        assert "…" not in line
    assert f"{{{TAG}}} answers: 1 of 2 failed, last: ValueError: this one fails" in lines


def test_as_json(servers: RedisClusterServers, nodes: str) -> None:
    found = as_json(nodes)
    assert found["ok"] is True
    assert found["problems"] == []
    assert found["cluster"] == {"state": "ok", "slots_covered": 16384}
    by_address = {node["at"]: node for node in found["nodes"]}
    assert set(by_address) == {node.address for node in servers.nodes}
    for number, replica in enumerate(servers.replicas):
        node = by_address[replica.address]
        master = by_address[servers.masters[number].address]
        assert (node["role"], node["link"], node["shard"]) == ("replica", "up", master["shard"])
        assert node["master"] == master["at"]
        assert node["behind_bytes"] is not None
    first = by_address[servers.masters[0].address]
    assert (first["role"], first["shard"], first["stats"]["workers"]) == ("master", TAG, 1)
    assert (first["stats"]["filter_hits"], first["stats"]["filter_misses"]) == (2, 2)
    (registration,) = first["registrations"]
    assert (registration["name"], registration["triggered"], registration["failed"]) == ("answers", 2, 1)
    assert sum(node["slots"] for node in found["nodes"]) == 16384


def test_watch_without_a_terminal_prints_on_until_it_is_stopped(nodes: str) -> None:
    command = [sys.executable, "-m", "keymiss.cli", "status", "--watch", "--interval-s", "0.2", "--json"]
    with subprocess.Popen(
        [*command, "--nodes", nodes], env=ENV, cwd=REPO, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(patient(10)) == 0
    assert second["t"] > first["t"]
    assert first["nodes"][0]["per_s"] is None
    assert second["nodes"][0]["per_s"]["ops"] > 0


class Terminal:
    """`keymiss status --watch` in a terminal of 24 lines of 80 columns."""

    def __init__(self, nodes: str) -> None:
        self.process, self._number = pty.fork()
        if self.process == 0:
            os.chdir(REPO)
            command = [sys.executable, "-m", "keymiss.cli", "status", "--watch", "--interval-s", "0.3"]
            env = {name: value for name, value in ENV.items() if name != "COLUMNS"}
            os.execve(sys.executable, [*command, "--nodes", nodes], env)
        fcntl.ioctl(self._number, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.shown = b""

    def read(self) -> None:
        """What it has shown since; nothing more once it has ended."""
        with contextlib.suppress(OSError):
            if select.select([self._number], [], [], 0.1)[0]:
                self.shown += os.read(self._number, 65536)

    def wait_for(self, text: bytes, times: int = 1) -> None:
        def there() -> bool:
            self.read()
            return self.shown.count(text) >= times

        wait_until(there, 20, f"{text!r} is shown")

    def type(self, text: bytes) -> None:
        os.write(self._number, text)

    def echoes(self) -> bool:
        """Whether the terminal is as a shell wants it."""
        return bool(termios.tcgetattr(self._number)[3] & termios.ECHO)

    def exit_code(self) -> int:
        def ended() -> tuple[int, int]:
            self.read()
            return os.waitpid(self.process, os.WNOHANG)

        code: int = os.waitstatus_to_exitcode(wait_until(lambda: _if_any(ended()), 20, "it ends")[1])
        return code


def _if_any(found: tuple[int, int]) -> tuple[int, int] | None:
    return found if found[0] else None


@pytest.mark.parametrize("ending", [b"q", b"\x03"])
def test_watch_in_a_terminal(nodes: str, ending: bytes) -> None:
    terminal = Terminal(nodes)
    terminal.wait_for(b"q ends", times=3)
    assert b"\x1b[?1049h" in terminal.shown
    assert b"misses per second" in terminal.shown
    assert not terminal.echoes()
    terminal.wait_for(b"lines 1 to 23 of ")
    terminal.type(b"\x1b[B")
    terminal.wait_for(b"lines 2 to 24 of ")
    terminal.type(ending)
    assert terminal.exit_code() == 0
    assert terminal.shown.rstrip().endswith(b"\x1b[?1049l")
    assert terminal.echoes()


def test_no_node_at_all() -> None:
    done = status("--nodes", "127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["▲ no node answers", "  127.0.0.1:1 is down: connection refused"]


@pytest.mark.parametrize("arguments", [["--nodes", "nohost"], ["--interval-s", "0"], ["--nonsense"]])
def test_wrong_use(arguments: list[str]) -> None:
    assert status(*arguments).returncode == 2


def test_a_node_that_hangs_is_not_waited_for_for_ever(servers: RedisClusterServers, nodes: str) -> None:
    hangs = servers.replicas[1]
    stand_still(hangs.pid)
    try:
        asker = ClusterAsker(parse_addresses(servers.addresses), NO_CREDENTIALS)
        began_s = time.monotonic()
        found = asyncio.run(asker.ask())
        took_s = time.monotonic() - began_s
    finally:
        os.kill(hangs.pid, signal.SIGCONT)
    assert took_s >= NODE_TIMEOUT_S
    assert {node.at: node.error for node in found.nodes if node.error} == {
        hangs.address: "no answer within 2 s"
    }
    servers.wait_ok()


def test_a_killed_node_is_down(servers: RedisClusterServers, nodes: str) -> None:
    """The last one."""
    lost = servers.masters[2]
    lost.kill()
    done = status("--nodes", nodes)
    assert done.returncode == 1
    assert f"  {lost.address} is down: connection refused" in done.stdout.splitlines()
    (line,) = (
        each for each in done.stdout.splitlines() if f"}} {lost.address}" in each or each.startswith("- ")
    )
    assert " down " in line

    def taken_over() -> dict[str, Any] | None:
        now = {node["at"]: node for node in as_json(nodes)["nodes"]}
        return now if now[servers.replicas[2].address]["slots"] else None

    now = wait_until(taken_over, 30, "the replica has the slots")
    assert now[servers.replicas[2].address]["role"] == "master"
    assert now[lost.address]["error"] == "connection refused"
