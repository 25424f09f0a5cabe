"""PING and GET of one key in turns, a ms apart: `latency_probe.py PORT KEY SECONDS` prints what they took."""

from __future__ import annotations

import json
import statistics
import sys
import time

import redis

AT_LEAST = 100


def main(port: int, key: str, seconds: float) -> None:
    """Until the time is over."""
    client = redis.Redis(port=port, socket_timeout=30)
    took: dict[str, list[float]] = {"ping": [], "get": []}
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s or len(took["get"]) < AT_LEAST:
        for name, call in (("ping", client.ping), ("get", lambda: client.get(key))):
            began_s = time.perf_counter()
            call()
            took[name].append((time.perf_counter() - began_s) * 1000)
            time.sleep(0.001)
    print(json.dumps({name: _summary(sorted(times)) for name, times in took.items()}))


def _summary(times: list[float]) -> dict[str, float]:
    p99 = times[int(len(times) * 0.99)]
    return {"p50": statistics.median(times), "p99": p99, "max": times[-1], "n": len(times)}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
