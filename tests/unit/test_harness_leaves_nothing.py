"""The tests' own machinery: what hangs is ended and named, and nothing that tests started outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.keeper import RUN, started_at
from tests.patience import patient, slower
from tests.servers import REPO, wait_until

HEAD = """
import os, signal, subprocess, threading
from pathlib import Path
import pytest
from tests.keeper import keeper
from tests.servers import Process, RedisServer

def note(pid):
    with open({notes!r}, "a") as file:
        file.write(f"{{pid}} ")

def never():
    threading.Event().wait()

def deaf():
    "As code that never comes back to Python."
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    never()

@pytest.fixture(scope="module")
def started():
    with RedisServer(module=False) as server:
        note(server.pid)
        other = Process("other")
        thread = threading.Thread(target=other.spawn, args=(["sleep", "600"],))
        thread.start()
        thread.join()
        note(other.pid)
        yield
        other.kill()
        other.discard()
"""
HANGS = """
def test_a_first_one(started): pass
def test_hangs(started): {how}()
def test_last_one(started): pass
"""


class Inner:
    """A file of tests, run by a pytest of its own. Limits are a tenth of what the file says."""

    def __init__(self, folder: Path, body: str) -> None:
        self.notes = folder / "pids"
        self.file = folder / "test_inner.py"
        self.file.write_text(HEAD.format(notes=str(self.notes)) + body)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": str(REPO),
            "KEYMISS_TEST_PATIENCE": "0.1",
        }
        del self.env[RUN]

    def start(self, *arguments: str, by: str = "pytest", limit_s: float = 30, **env: str) -> Running:
        order = ["-q", "-c", "pyproject.toml", "--rootdir", str(self.file.parent)]
        order += ["-p", "tests.conftest", "-p", "no:cacheprovider"]
        order += ["--timeout", str(limit_s), *arguments, str(self.file)]
        return Running(
            [sys.executable, "-m", by, *order],
            cwd=REPO,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pids(self) -> list[int]:
        return [int(pid) for pid in self.notes.read_text().split()] if self.notes.exists() else []

    def nothing_is_left(self, count: int) -> bool:
        pids = self.pids()
        assert len(pids) == count
        wait_until(lambda: not any(map(started_at, pids)), 20, "all of it has ended")
        return True


class Running(subprocess.Popen[str]):
    """That pytest."""

    def ended(self) -> tuple[int, str]:
        """Exit code and what it said."""
        said, _ = self.communicate(timeout=patient(60))
        return self.returncode, said


def test_a_test_that_hangs_fails_and_the_others_go_on(tmp_path: Path) -> None:
    inner = Inner(tmp_path, HANGS.format(how="never"))
    code, said = inner.start().ended()
    assert code == 1
    assert "Failed: Timeout (>3.0s)" in said
    assert "test_inner.py::test_hangs" in said
    assert "1 failed, 2 passed" in said
    assert inner.nothing_is_left(2)


def test_one_that_cannot_be_ended_costs_the_process_and_is_named(tmp_path: Path) -> None:
    inner = Inner(tmp_path, HANGS.format(how="deaf"))
    code, said = inner.start().ended()
    assert code not in (0, 1)
    assert "test_inner.py::test_hangs hangs: it did not end when its time was over" in said
    assert "in deaf" in said, "what each thread was doing"
    assert inner.nothing_is_left(2)


def test_it_ends_a_run_of_several_processes(tmp_path: Path) -> None:
    inner = Inner(tmp_path, HANGS.format(how="deaf"))
    other = tmp_path / "test_other.py"
    other.write_text("def test_it(): pass\n")
    code, said = inner.start("-n", "2", "--dist", "loadfile", str(other)).ended()
    assert code == 1
    assert said.count("test_hangs hangs: ") == 1
    assert "crashed while running" in said
    assert "2 passed" in said
    assert inner.nothing_is_left(2)


@pytest.mark.parametrize(
    ("by", "number"),
    [("pytest", signal.SIGKILL), ("pytest", signal.SIGTERM), ("tests.whole_run", signal.SIGKILL)],
)
def test_a_killed_run_leaves_nothing(tmp_path: Path, by: str, number: int) -> None:
    inner = Inner(tmp_path, HANGS.format(how="never"))
    running = inner.start(by=by, limit_s=100_000)
    wait_until(lambda: len(inner.pids()) == 2, 30, "the servers run")
    running.send_signal(number)
    assert running.ended()[0] == -number
    assert inner.nothing_is_left(2)


def test_a_local_system_of_a_killed_pytest_is_ended(tmp_path: Path) -> None:
    """Its processes have no parent among the tests: they are found by the folder they were started in."""
    body = f"""
def test_hangs():
    keeper().begins_system(Path({str(tmp_path)!r}))
    note(subprocess.Popen(["sleep", "600"], env={{"KEYMISS_STARTED_IN": {str(tmp_path)!r}}}).pid)
    never()
"""
    inner = Inner(tmp_path, body)
    running = inner.start(limit_s=100_000)
    wait_until(inner.pids, 30, "it runs")
    running.kill()
    running.ended()
    assert inner.nothing_is_left(1)


def test_the_whole_run_has_a_limit_and_says_what_hung(tmp_path: Path) -> None:
    inner = Inner(tmp_path, HANGS.format(how="deaf"))
    limit_s = f"{slower(10):.0f}"  # the test must have begun by then
    started = inner.start("-n", "1", by="tests.whole_run", limit_s=100_000, KEYMISS_TEST_LIMIT_S=limit_s)
    code, said = started.ended()
    assert code == 1
    assert f"the tests did not end within {limit_s} s" in said
    assert "test_inner.py::test_hangs" in said
    assert "in deaf" in said
    assert inner.nothing_is_left(2)


def test_what_tests_leave_behind_is_named_ended_and_an_error(tmp_path: Path) -> None:
    body = """
kept = []
def test_leaves():
    kept.append(subprocess.Popen(["sleep", "601"], start_new_session=True))
    note(kept[0].pid)
"""
    inner = Inner(tmp_path, body)
    code, said = inner.start(by="tests.whole_run").ended()
    assert code == 1
    assert "1 passed" in said
    assert f"left behind by the tests, and ended:\n  {inner.pids()[0]}: sleep 601" in said
    assert inner.nothing_is_left(1)


def test_the_whole_run_gives_pytests_exit_code(tmp_path: Path) -> None:
    for code, outcome in ((0, True), (1, False)):
        inner = Inner(tmp_path, f"def test_it(): assert {outcome}\n")
        assert inner.start(by="tests.whole_run").ended()[0] == code


def test_a_script_that_is_no_test_run_starts_and_ends_servers(tmp_path: Path) -> None:
    """As scripts/bench.py does."""
    script = """from tests.servers import RedisServer
with RedisServer(module=False) as server:
    print(server.client().ping())
"""
    env = {name: value for name, value in os.environ.items() if name != RUN}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPO,
        env=env | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=patient(30),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    wait_until(lambda: not list(tmp_path.iterdir()), 10, "the folder of the run is gone")
