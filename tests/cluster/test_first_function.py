"""docs/first-function.md is true: its functions and commands give what the page shows, in this order."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, WorkerProcess, wait_until

PAGE = (REPO / "docs" / "first-function.md").read_text()
PASSWORD = "of the administrator"
BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>python|console)\n(?P<text>.*?)^```$", re.S | re.M
)


@dataclass(frozen=True)
class Command:
    """What is typed, and what the page shows below it; `...` stands for anything."""

    text: str
    shown: str

    def fits(self, printed: str) -> bool:
        pattern = r".*?".join(map(re.escape, self.shown.split("...")))
        return re.fullmatch(pattern, printed, re.S) is not None


def commands_of(block: str) -> Iterator[Command]:
    for command in re.split(r"^\$ ", block, flags=re.M)[1:]:
        typed, _, shown = command.partition("\n")
        yield Command(typed, shown.rstrip("\n"))


@dataclass(frozen=True)
class Reader:
    """Somebody who follows the page in `folder`, on this cluster."""

    cluster: RedisClusterServers
    folder: Path

    def saves(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def types(self, command: str) -> str:
        """What a terminal shows: redis-cli prints otherwise into a pipe."""
        command = re.sub(r"(?<=[<>] )(\w+\.py)", lambda file: str(self.folder / file[1]), command)
        command = command.replace("30001", str(self.cluster.masters[0].port))
        command = command.replace("var/log/", f"{self.folder}/log/")
        settings = {"KEYMISS_VAR": str(self.folder), "KEYMISS_BASE_PORT": str(self.cluster.masters[0].port)}
        ours, terminal = os.openpty()
        try:
            subprocess.run(
                ["bash", "-c", command],
                cwd=REPO,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
                timeout=patient(60),
            )
            os.write(terminal, b"\n")
            os.set_blocking(ours, False)
            return os.read(ours, 65536).decode().replace("\r\n", "\n").rstrip("\n")
        finally:
            os.close(ours)
            os.close(terminal)


@pytest.fixture
def reader(cluster: RedisClusterServers, cluster_worker: WorkerProcess, tmp_path: Path) -> Reader:
    """On a cluster with an administrator, as scripts/start.sh makes it."""
    for node in cluster.nodes:
        with node.client() as client:
            client.acl_setuser(
                "admin", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], commands=["+@all"]
            )
    for folder in ("secrets", "log"):
        (tmp_path / folder).mkdir()
    (tmp_path / "secrets" / "admin").write_text(PASSWORD)
    (tmp_path / "log" / "worker.log").symlink_to(cluster_worker.log)
    return Reader(cluster, tmp_path)


def test_the_page_from_top_to_bottom(reader: Reader) -> None:
    typed = 0
    for block in BLOCK.finditer(PAGE):
        if block["kind"] == "python":
            assert block["file"], f"a function without a name: {block['text'][:80]}"
            reader.saves(block["file"], block["text"])
            continue
        for command in commands_of(block["text"]):
            printed: list[str] = []

            def as_shown(command: Command = command, printed: list[str] = printed) -> bool:
                printed.append(reader.types(command.text))
                return command.fits(printed[-1])

            if "worker.log" in command.text:  # the worker may still be at it
                wait_until(as_shown, 10, command.text)
            else:
                assert as_shown(), f"$ {command.text}\n{printed[-1]}\n--- the page shows:\n{command.shown}"
            typed += 1
    assert typed >= 15
