"""On what a run was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")
"""Those that say how fast a model runs on a processor."""
PACKAGES = ("torch", "onnxruntime", "transformers", "tokenizers", "numpy", "redis")
REPO = Path(__file__).resolve().parents[2]


def about_this_machine() -> dict[str, Any]:
    """Processor, cores, memory, versions, the commit and the time."""
    cpu = dict(
        (name.strip(), value.strip())
        for name, _, value in (line.partition(":") for line in _lines(Path("/proc/cpuinfo")))
    )
    flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
    memory = next((line.split()[1] for line in _lines(Path("/proc/meminfo")) if "MemTotal" in line), "0")
    return {
        "processor": cpu.get("model name", platform.machine()),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory) * 1024 / 1e9, 1),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "server": _said("redis-server", "--version"),
        "commit": _said("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "load_before": round(os.getloadavg()[0], 2),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "-"
    return done.stdout.strip() or "-"
