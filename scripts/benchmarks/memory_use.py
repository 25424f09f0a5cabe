"""What the whole system has in memory, part by part."""

from __future__ import annotations

import time

from scripts.benchmarks.figures import Results, Row, at_most
from scripts.benchmarks.options import Options
from scripts.benchmarks.system import System
from scripts.memory import GOAL_BYTES, memory_of

GOAL_NODES = 8
NOTE = "PSS"


def memory(results: Results, options: Options, system: System) -> None:
    """After articles were loaded and a question was answered. The goal is that of the bootstrap's system."""
    time.sleep(options.size.settle_s)
    nodes = len(system.servers.nodes)
    parts = {name: memory_of(pids) for name, pids in system.processes().items()}
    for name, part in parts.items():
        what = f"{nodes} {name}" if name == "nodes" else name
        note = f"{NOTE}; {part['files'] / 1e6:.0f} MB of it pages of files"
        results.add(Row.of("memory", what, "MB", [part["pss"] / 1e6], note=note))
    whole = sum(part["pss"] for part in parts.values()) / 1e6
    goal = at_most(GOAL_BYTES / 1e6, whole, f"at most {GOAL_BYTES / 1e6:,.0f} MB")
    what = f"all: {nodes} nodes, worker, API, nginx"
    results.add(Row.of("memory", what, "MB", [whole], goal=goal if nodes == GOAL_NODES else None, note=NOTE))
