"""Runs all tests with a time limit of the whole, and leaves nothing behind.

    python -m tests.whole_run -q -n 4 tests     (pytest's arguments)

What is still running when the time is over is named, shows what each of its threads was doing, and is ended.
Processes that were started by the tests and are there after them, whoever their parents were, are named and
ended by their ids, and are an error. Exit code: pytest's; 1 for these two. pytest by itself works too.

Environment:
    KEYMISS_TEST_LIMIT_S  the limit (default: 1800, more on a slow machine)
    OMP_NUM_THREADS       threads of one model run (default: 1, as several processes run models at once)
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.keeper import DUMP_S, REPO, RUN, end, started_at
from tests.patience import slowness

LIMIT_S = 1800.0  # on an idle machine of two cores; there they take a third of it
KEEPERS_S = 30.0  # for the keepers, which end what a killed process of tests has left
SETTLE_S = 2.0  # for anything else
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def children_of(parents: set[int]) -> dict[int, int]:
    """Process -> parent, of every process below these."""
    parent_of = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parent_of[int(entry.name)] = int(stat[1])
    found: dict[int, int] = {}
    while more := {pid: up for pid, up in parent_of.items() if up in parents | set(found)} - found.keys():
        found |= {pid: parent_of[pid] for pid in more}
    return found


def reap() -> None:
    """Takes the exit codes of processes whose parents have gone."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def wait(pytest: subprocess.Popen[bytes], limit_s: float) -> int:
    """Its exit code, and takes those of orphans meanwhile. TimeoutExpired."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            time.sleep(0.05)
        elif ended.si_pid == pytest.pid:
            return pytest.wait()
        else:
            os.waitpid(ended.si_pid, 0)
    raise subprocess.TimeoutExpired(pytest.args, limit_s)


def left() -> dict[int, str | None]:
    """Every process below this one that is there."""
    reap()
    return {pid: at for pid in children_of({os.getpid()}) if (at := started_at(pid))}


def command_of(pid: int) -> str:
    """For people."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:150]
    except OSError:
        return "gone meanwhile"


def settled() -> dict[int, str | None]:
    """What is still there after a while."""
    if not left():
        return {}
    slow, began_s = slowness(), time.monotonic()
    while there := left():
        keepers = any("tests.keeper" in command_of(pid) for pid in there)
        if time.monotonic() > began_s + (KEEPERS_S if keepers else SETTLE_S) * slow:
            break
        time.sleep(0.05)
    return there


def say(text: str) -> None:
    """On standard error."""
    print(text, file=sys.stderr, flush=True)


def end_what_hangs(pytest: int, folder: Path, limit_s: float) -> None:
    """Names the tests that run, has their processes show what they do, ends pytest."""
    running = {int(note.name.partition("-")[2]): note.read_text() for note in folder.glob("running-*")}
    say(f"\nthe tests did not end within {limit_s:.0f} s (KEYMISS_TEST_LIMIT_S); these ran:")
    for pid, test in running.items():
        say(f"  {test} (process {pid})")
    end({pid: started_at(pid) for pid in running}, signal.SIGABRT, DUMP_S)
    end({pytest: started_at(pytest)}, signal.SIGABRT, DUMP_S)


def main(arguments: list[str]) -> int:
    """Runs pytest with them."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    limit_s = float(os.environ.get("KEYMISS_TEST_LIMIT_S") or LIMIT_S * slowness())
    with tempfile.TemporaryDirectory(prefix="keymiss-tests-") as name:
        pytest = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=REPO,
            env={"OMP_NUM_THREADS": "1", **os.environ, RUN: name},
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        signal.signal(signal.SIGTERM, lambda *_: pytest.send_signal(signal.SIGINT))
        try:
            code = wait(pytest, limit_s)
        except subprocess.TimeoutExpired:
            end_what_hangs(pytest.pid, Path(name), limit_s)
            pytest.wait()
            code = 1
        except KeyboardInterrupt:  # the terminal sends it to pytest too
            code = pytest.wait()
        remaining = settled()
    if remaining:
        say("left behind by the tests, and ended:")
        for pid in remaining:
            say(f"  {pid}: {command_of(pid)}")
        end(remaining, signal.SIGKILL, DUMP_S)
        code = code or 1
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
