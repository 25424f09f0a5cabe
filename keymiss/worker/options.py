"""What a worker is told on its command line (docs/operations.md)."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from keymiss.addresses import Address

BEGUN_ANEW = "KEYMISS_WORKER_BEGUN_ANEW"
"""In the environment of a worker that begins anew: how nice it is, is kept."""

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The defaults are those of the command line. No nodes: those of the environment."""

    nodes: tuple[Address, ...] = ()
    local: bool = False
    job_threads: int = max(4, 4 * CORES)
    model_threads: int = CORES
    model_limit_s: float = 60.0
    job_limit_s: float = 3600.0
    execute_timeout_s: float = 60.0
    grace_s: float = 10.0
    startup_s: float = 60.0
    nice: int = 10
    preload: bool = True
    library_socket: Path | None = None
    backend: str = "torch"
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
