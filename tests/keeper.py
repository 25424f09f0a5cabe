"""Ends what a process of tests has started when that process is gone, however it went; and ends a process
whose test goes on long after its time limit.

A test process (pytest, or a worker of pytest-xdist) starts one keeper, a process of its own, and tells it
over a pipe, a line each, what it starts and which test runs. The kernel closes a pipe after SIGKILL too; then
the keeper ends what is still there of it, by process id. A time limit is first pytest-timeout's, which
ends the test alone; a test that cannot be ended so (it waits in foreign code, or its teardown does) costs the
process: SIGABRT, at which faulthandler shows what every thread was doing. Such a test is not run again.

Environment:
    KEYMISS_TEST_RUN  a folder of the whole run (set by its first process): which test runs in which process
                      (`running-<pid>`), and which tests hung (`hung`); a script that is no test run gets one
                      of its own
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
RUN = "KEYMISS_TEST_RUN"
DUMP_S = 10.0  # for faulthandler's words
TERM_S = 5.0


def started_at(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks: with its id, it is one process only. None: gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def run_folder() -> Path:
    """KEYMISS_TEST_RUN. Where there is none, one is made that goes with this process."""
    if RUN not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="keymiss-run-", ignore_cleanup_errors=True)
        atexit.register(folder.cleanup)
        os.environ[RUN] = folder.name
    return Path(os.environ[RUN])


def hung_before(test: str) -> bool:
    """Whether this test cost a process of this run already."""
    file = run_folder() / "hung"
    return file.exists() and test in file.read_text().splitlines()


class Keeper:
    """The test process's end of the pipe."""

    def __init__(self) -> None:
        run_folder()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.keeper", str(os.getpid())],
            cwd=REPO,
            stdin=subprocess.PIPE,
            start_new_session=True,  # what is sent to the whole group is not for it
        )

    def _tell(self, **said: Any) -> None:
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), json.dumps(said).encode() + b"\n")  # a line is written whole

    def begins(self, pid: int) -> None:
        """A process was started. Nothing is said of its end: another of the same id began at another time."""
        self._tell(begins=pid, at=started_at(pid))

    def begins_system(self, var: Path) -> None:
        """A local system (scripts/start.sh) may be started in this folder."""
        self._tell(system=str(var))

    def test(self, name: str, limit_s: float) -> None:
        """A test runs, and is to end within that time."""
        self._tell(test=name, limit_s=limit_s)

    def no_test(self) -> None:
        """It has ended."""
        self._tell(test=None)


@lru_cache(maxsize=1)
def keeper() -> Keeper:
    """Of this process."""
    return Keeper()


class _Kept:
    """What a keeper knows."""

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.processes: dict[int, str] = {}
        self.systems: list[Path] = []
        self.test: str | None = None
        self.until_s = 0.0
        self.note = run_folder() / f"running-{parent}"

    def hear(self, said: dict[str, Any]) -> None:
        if said.get("begins") and said["at"]:
            self.processes[said["begins"]] = said["at"]
        elif "system" in said:
            self.systems.append(Path(said["system"]))
        elif "test" in said:
            self.test = said["test"]
            if self.test:
                self.until_s = time.monotonic() + said["limit_s"]
                self.note.write_text(self.test)
            else:
                self.note.unlink(missing_ok=True)

    def wait_s(self) -> float | None:
        """Until the test must have ended."""
        return max(0.0, self.until_s - time.monotonic()) if self.test else None

    def end_parent(self) -> None:
        """Its test hangs."""
        print(
            f"\n{self.test} hangs: it did not end when its time was over, and the process of the tests "
            f"({self.parent}) is ended; what it was doing:",
            file=sys.stderr,
            flush=True,
        )
        with (run_folder() / "hung").open("a") as file:
            file.write(f"{self.test}\n")
        self.test = None
        end({self.parent: started_at(self.parent)}, signal.SIGABRT, DUMP_S)

    def end_all(self) -> None:
        """The test process is gone."""
        left = {pid: at for pid, at in self.processes.items() if started_at(pid) == at}
        for system in self.systems:
            from keymiss.local.processes import processes_of

            left |= {pid: started_at(pid) for pid in processes_of(system)}
        self.note.unlink(missing_ok=True)
        end(left, signal.SIGTERM, TERM_S)
        for system in self.systems:  # what a supervisor has started again meanwhile
            end({pid: started_at(pid) for pid in processes_of(system)}, signal.SIGKILL, TERM_S)


def end(processes: dict[int, str | None], number: int, within_s: float) -> None:
    """Sends each the signal, and SIGKILL to those that are there after so many seconds."""
    for sent in (number, signal.SIGKILL):
        there = [pid for pid, at in processes.items() if at is not None and started_at(pid) == at]
        for pid in there:
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, sent)
            except ProcessLookupError:
                continue
        until_s = time.monotonic() + within_s
        while any(started_at(pid) == processes[pid] for pid in there) and time.monotonic() < until_s:
            time.sleep(0.02)


def main() -> int:
    """Reads until the pipe is closed."""
    kept, rest = _Kept(int(sys.argv[1])), b""
    while True:
        readable, _, _ = select.select([0], [], [], kept.wait_s())
        if not readable:
            kept.end_parent()
            continue
        given = os.read(0, 1 << 16)
        if not given:
            kept.end_all()
            return 0
        *lines, rest = (rest + given).split(b"\n")
        for line in lines:
            kept.hear(json.loads(line))


if __name__ == "__main__":
    sys.exit(main())
