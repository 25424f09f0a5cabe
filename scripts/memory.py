"""What the running local system has in memory, part by part, against the goal of 1.0 GB for all.

    python scripts/memory.py            # a table
    python scripts/memory.py --json     # the same as a JSON object, in bytes

PSS, as the kernel has it: what several processes share counts once in all. "Of it files" are pages of files
(programs, libraries, blobs of models), which the kernel can drop and read again. MB are 10^6 bytes. Best 15 s
after something was loaded: servers give memory back by then. Needs the right to look at the system's
processes: their user's, or root's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from keymiss.local.processes import StartError, Supervisor, processes_of  # noqa: E402
from keymiss.settings import Settings  # noqa: E402
from keymiss.worker.model_processes.memory import family_of, is_for_models  # noqa: E402

GOAL_BYTES = 10**9
NAMES = {"redis": "nodes", "worker": "worker and its processes", "api": "API", "nginx": "nginx"}


def parts(settings: Settings) -> dict[str, list[int]]:
    """Part -> its processes: those of each program of the supervisor, and what else was started with them."""
    found: dict[str, list[int]] = {name: [] for name in NAMES.values()}
    for program, (state, description) in Supervisor(settings).states().items():
        if state == "RUNNING":  # pid 12, uptime 0:01:00
            kind = program.partition(":")[0]
            pid = int(description.removeprefix("pid ").partition(",")[0])
            found.setdefault(NAMES.get(kind, kind), []).extend(family_of(pid))
    models = filter(is_for_models, processes_of(settings.var))  # perhaps of a worker that died
    found[NAMES["worker"]] = sorted({*found[NAMES["worker"]], *models})
    known = {pid for pids in found.values() for pid in pids}
    found["supervisor"] = [pid for pid in processes_of(settings.var) if pid not in known]
    return found


def memory_of(pids: list[int]) -> dict[str, int]:
    """Bytes of them together, and how many they are; those that have ended meanwhile are left out."""
    sums = {"processes": 0, "pss": 0, "files": 0}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        sums["processes"] += 1
        sums["pss"] += kilobytes["Pss"] * 1024
        sums["files"] += kilobytes["Pss_File"] * 1024
    return sums


def main(
    json_: Annotated[bool, typer.Option("--json", help="a JSON object, in bytes")] = False,
) -> None:
    """What the running local system has in memory, against the goal of 1.0 GB."""
    settings = Settings.from_env()
    try:
        if not Supervisor(settings).running():
            raise SystemExit("Keymiss is not running: scripts/start.sh starts it.")
        found = {name: memory_of(pids) for name, pids in parts(settings).items()}
    except (StartError, PermissionError) as error:
        raise SystemExit(str(error)) from None
    total = {what: sum(part[what] for part in found.values()) for what in ("processes", "pss", "files")}
    if json_:
        print(json.dumps({"parts": found, "all": total, "goal_bytes": GOAL_BYTES}, indent=2))
        return
    table = Table(title="memory (PSS)", title_justify="left")
    for column in ("what", "processes", "MB", "of it files, MB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, part in (found | {"all": total}).items():
        table.add_row(
            name, str(part["processes"]), f"{part['pss'] / 1e6:,.0f}", f"{part['files'] / 1e6:,.0f}"
        )
    Console().print(table)
    print(f"{total['pss'] / GOAL_BYTES:.2f} GB of the goal of {GOAL_BYTES / 1e9:.1f} GB")


if __name__ == "__main__":
    typer.run(main)
