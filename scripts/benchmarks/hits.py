"""What the module costs a GET that hits: the same server with it and without it, in pairs that alternate."""

from __future__ import annotations

from pathlib import Path

import redis

from keymiss import keys
from scripts.benchmarks.figures import Results, Row, at_least, beside
from scripts.benchmarks.options import Options
from scripts.benchmarks.redis_benchmark import redis_benchmark
from tests.servers import RedisServer

CLIENTS = 50
PAIRS_A_ROUND = 2
TAG = keys.tag_for_slot(0)
KEY = f"{keys.ANSWER_PREFIX}{{{TAG}}}_bench:{{{TAG}}}:0_Who performs viral transmission among adults"


def hits(results: Results, options: Options) -> None:
    """Rows with the module against the server alone, and against another build of it if there is one."""
    with RedisServer(module=False) as plain, RedisServer() as ours:
        _fill(plain.client(), False)
        _fill(ours.client(), True)
        _compare(results, options, "the server without the module", plain, ours)
        if options.before:
            with _with_module(options.before) as before:
                _fill(before.client(), True)
                _compare(results, options, "the module of before", before, ours)


def _with_module(path: Path) -> RedisServer:
    return RedisServer("--loadmodule", str(path.resolve()), module=False)


def _compare(results: Results, options: Options, what: str, other: RedisServer, ours: RedisServer) -> None:
    for pipeline, requests in options.size.hit_requests:

        def rate(server: RedisServer, n: int = requests, pipeline: int = pipeline) -> float:
            return redis_benchmark(server.port, CLIENTS, n, "get", KEY, pipeline=pipeline)[0]

        rate(other), rate(ours)  # warm
        mine, others = [], []
        for pair in range(PAIRS_A_ROUND * options.size.rounds + 1):  # each is first as often as the other
            first, second = (other, ours) if pair % 2 else (ours, other)
            rates = {server.port: rate(server) for server in (first, second)}
            mine.append(rates[ours.port])
            others.append(rates[other.port])
        compared = beside(what, mine, others)
        goal = at_least(1.0, compared.ratio, "no slower than before") if options.before is not None else None
        name = f"GET that hits, {CLIENTS} clients" + (f", -P {pipeline}" if pipeline > 1 else "")
        of_before = "before" in what
        results.add(Row.of("hits", name, "/s", mine, beside=compared, goal=goal if of_before else None))


def _fill(client: redis.Redis, registered: bool) -> None:
    """The key, and registrations as gears/qa.py makes them; no worker: only the filter is measured."""
    client.set(KEY, "infected adults with mild symptoms")
    if not registered:
        return
    sha1 = "0" * 40
    client.execute_command("KM.SCRIPT", "SET", sha1, "pass")
    for ordinal, prefix in enumerate((keys.ANSWER_PREFIX, keys.SPAN_PREFIX)):
        reader = ("KeysReader", "", "async_local", prefix, "keymiss", "", "get")
        client.execute_command("KM.REGISTER", f"bench-{ordinal}", sha1, ordinal, *reader)
