"""redis-benchmark, run and read."""

from __future__ import annotations

import re
import subprocess

from keymiss.cluster.tls import Tls
from scripts.benchmarks.failure import BenchFailed

HOST = "127.0.0.1"
TIMEOUT_S = 300


def redis_benchmark(
    port: int,
    clients: int,
    requests: int,
    *command: str,
    pipeline: int = 1,
    host: str = HOST,
    tls: Tls | None = None,
) -> tuple[float, float]:
    """Requests a second and the median in ms; __rand_int__ in the command is another number each time.
    BenchFailed with its own words."""
    called = [
        *(
            "redis-benchmark",
            *(tls.program_arguments if tls else ()),
            "-h",
            host,
            "-p",
            str(port),
            "-c",
            str(clients),
            "-n",
            str(requests),
        ),
        *("-P", str(pipeline), "--csv", "-r", "1000000000", *command),
    ]
    done = subprocess.run(called, capture_output=True, text=True, timeout=TIMEOUT_S)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    numbers = [field.strip('"') for field in re.findall(r'"[^"]*"(?=,|$)', last)][-7:]
    if done.returncode or len(numbers) < 7:
        said = done.stderr.strip() or done.stdout.strip() or done.returncode
        raise BenchFailed(f"redis-benchmark: {said}")
    return float(numbers[0]), float(numbers[3])
