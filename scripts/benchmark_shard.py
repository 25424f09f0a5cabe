"""What the module costs and what misses do to a shard: the figures behind the README's claims, in one run.

    python scripts/benchmark_shard.py            # starts servers of its own
    python scripts/benchmark_shard.py --pairs 9

1. `redis-benchmark GET` of a cached, watched key: this server with the module against the same server
   without it, without pipelining and with -P 16. Paired runs, alternating; median of the pairs' ratios.
2. 50 clients of redis-benchmark on one missing key: model calls (AI.INFO) that it cost, and its time.
3. PING on the shard while a worker answers 50 different questions, against PING on the idle shard.

Needs redis-server (or valkey-server, --server) and the module (make -C module). Everything on loopback.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import redis
import typer

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from benchmark import model_calls, redis_benchmark  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from keymiss import keys  # noqa: E402
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, wait_until  # noqa: E402

CLIENTS = 50
REQUESTS = {1: 100_000, 16: 1_000_000}
TAG = keys.tag_for_slot(0)
SENTENCES = [
    f"In outbreak {i}, infected adults of ward {i % 7} carried the virus to their households in {i + 2} days."
    for i in range(CLIENTS)
]


def gets_per_s(port: int, key: str, pipeline: int) -> float:
    """GETs a second of redis-benchmark with 50 clients."""
    return redis_benchmark(port, "127.0.0.1", key, REQUESTS[pipeline], pipeline)[0]


def register_nothing_much(client: redis.Redis) -> None:
    """Two registrations, as gears/qa.py makes, without a worker: only the filter is measured."""
    sha1 = "0" * 40
    client.execute_command("KM.SCRIPT", "SET", sha1, "pass")
    for ordinal, prefix in enumerate((keys.ANSWER_PREFIX, keys.SPAN_PREFIX)):
        client.execute_command(
            "KM.REGISTER",
            f"bench-{ordinal}",
            sha1,
            ordinal,
            "KeysReader",
            "",
            "async_local",
            prefix,
            "keymiss",
            "",
            "get",
        )


def cached_gets(table: Table, kind: str, pairs: int) -> None:
    """Rows 1: with and without the module."""
    key = f"{keys.ANSWER_PREFIX}{{{TAG}}}_bench:{{{TAG}}}:0_Who performs viral transmission among adults"
    with RedisServer(kind=kind, module=False) as plain, RedisServer(kind=kind) as ours:
        for server in (plain, ours):
            server.client().set(key, "infected adults with mild symptoms")
        register_nothing_much(ours.client())
        for pipeline in REQUESTS:
            gets_per_s(plain.port, key, pipeline), gets_per_s(ours.port, key, pipeline)  # warm
            rates = []
            for pair in range(pairs):  # each is first as often as the other
                first, second = (plain, ours) if pair % 2 else (ours, plain)
                rate = {s.port: gets_per_s(s.port, key, pipeline) for s in (first, second)}
                rates.append((rate[plain.port], rate[ours.port]))
            ratios = [b / a for a, b in rates]
            table.add_row(
                f"cached GET, -c 50 -P {pipeline}",
                f"{statistics.median(a for a, _ in rates):,.0f}/s",
                f"{statistics.median(b for _, b in rates):,.0f}/s",
                f"{statistics.median(ratios):.3f} (of {pairs} pairs: {min(ratios):.3f} to {max(ratios):.3f})",
            )


def ping_ms(client: redis.Redis, until: threading.Event, at_least: int) -> list[float]:
    """PING times in ms, every ms until the event is set (and at least so many)."""
    times: list[float] = []
    while not until.is_set() or len(times) < at_least:
        began = time.perf_counter()
        client.ping()
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.001)
    return times


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def misses(table: Table, kind: str) -> None:
    """Rows 2 and 3: a real worker, the real functions and reader on one shard."""
    with RedisClusterServers(masters=1, kind=kind) as cluster, WorkerProcess(cluster):
        (shard,) = cluster.nodes
        client = shard.client()
        subprocess.run(
            [sys.executable, "-m", "keymiss.models.load", "--nodes", shard.address],
            cwd=REPO,
            check=True,
            capture_output=True,
            timeout=300,
        )
        article = f"bench:{{{TAG}}}"
        client.hset(f"sentence:{article}", mapping={str(i): text for i, text in enumerate(SENTENCES)})
        for script in ("tokenize.py", "qa.py"):
            client.execute_command("RG.PYEXECUTE", (REPO / "gears" / script).read_text())
        client.hset(f"sentence:{article}", "0", SENTENCES[0])
        wait_until(lambda: client.exists(f"tokenized:bert:qa:{article}:{CLIENTS - 1}"), 60, "tokenized")

        def key(idx: int, question: str) -> str:
            return f"{keys.ANSWER_PREFIX}{{{TAG}}}_{article}:{idx}_{question}"

        client.get(key(0, "Warm?"))
        before = model_calls(client, TAG)
        began = time.perf_counter()
        subprocess.run(
            [
                "redis-benchmark",
                "-p",
                str(shard.port),
                "-c",
                "50",
                "-n",
                "50",
                "get",
                key(1, "Who carried the virus?"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        took_ms = (time.perf_counter() - began) * 1000
        table.add_row(
            "50 clients, one missing key",
            "-",
            f"{model_calls(client, TAG) - before} model call(s)",
            f"{took_ms:.0f} ms in all, with redis-benchmark's start",
        )
        client.config_set("keymiss.cache", "no")
        idle = threading.Event()
        threading.Timer(3, idle.set).start()
        idle_times = ping_ms(client, idle, 500)
        done = threading.Event()
        errors: list[Exception] = []
        stop_at = time.monotonic() + 10

        def ask(i: int) -> None:
            with shard.client() as mine:
                n = 0
                while time.monotonic() < stop_at:
                    try:
                        mine.get(key(i, f"Who carried the virus to households in outbreak {i}, try {n}?"))
                    except redis.RedisError as error:
                        errors.append(error)
                        return
                    n += 1
                answered.append(n)

        answered: list[int] = []
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()

        def join_all() -> None:
            for thread in threads:
                thread.join()
            done.set()

        threading.Thread(target=join_all).start()
        # The pinger is a process of its own: this one's threads would measure each other.
        busy = subprocess.run(
            [sys.executable, __file__, "--ping", str(shard.port), "--seconds", "8"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        busy_p50, busy_p99, busy_max, n = (float(x) for x in busy.stdout.split())
        done.wait(60)
        if errors:
            raise SystemExit(f"a question failed: {errors[0]}")
        table.add_row(
            "PING p99 (p50, max)",
            f"idle: {p99(idle_times):.2f} ms ({statistics.median(idle_times):.2f}, {max(idle_times):.2f})",
            f"busy: {busy_p99:.2f} ms ({busy_p50:.2f}, {busy_max:.2f})",
            f"{n:.0f} pings while 50 clients had {sum(answered)} questions answered in 10 s",
        )


def main(
    server: Annotated[str, typer.Option(help="redis or valkey")] = "redis",
    pairs: Annotated[int, typer.Option(help="pairs of runs for each ratio")] = 11,
    ping: Annotated[int, typer.Option(hidden=True)] = 0,
    seconds: Annotated[float, typer.Option(hidden=True)] = 8,
) -> None:
    """What the module costs and what misses do to a shard."""
    if ping:
        over = threading.Event()
        threading.Timer(seconds, over.set).start()
        times = ping_ms(redis.Redis(port=ping), over, 100)
        print(statistics.median(times), p99(times), max(times), len(times))
        return
    table = Table(title=f"a shard, {server}-server", title_justify="left")
    for column in ("what", "without / alone", "with the module", "ratio, or what happened"):
        table.add_column(column, overflow="fold")
    misses(table, server)
    cached_gets(table, server, pairs)
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
