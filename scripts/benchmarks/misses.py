"""GETs that miss: of different keys, of one that many want, and what other clients feel of them."""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hiredis

from scripts.benchmarks.figures import Beside, Results, Row, at_least, at_most, beside
from scripts.benchmarks.options import Options
from scripts.benchmarks.readers import ReadingProcess
from scripts.benchmarks.redis_benchmark import HOST, redis_benchmark
from scripts.benchmarks.system import StoredSentence, System
from tests.servers import RedisServer

CLIENTS = 50
SENTENCES = 40  # of each master
ORIGINAL_REQUESTS = 10
REPLY_LIMIT_S = 60.0

Where = tuple[RedisServer, Sequence[StoredSentence]]
"""A master and sentences on it."""


def places(system: System) -> list[Where]:
    """Of all masters that have sentences."""
    found = [(master, system.sentences_on(master, SENTENCES)) for master in system.servers.masters]
    return [(master, sentences) for master, sentences in found if sentences]


@dataclass
class _Client:
    """A connection, and the sentence that it asks next: each is `step` after the last."""

    socket: socket.socket
    sentences: Sequence[StoredSentence]
    at: int
    step: int
    replies: hiredis.Reader = field(default_factory=hiredis.Reader)

    def ask(self, question: str) -> None:
        """Of the next sentence."""
        key = self.sentences[self.at % len(self.sentences)].answer_key(question)
        self.at += self.step
        self.socket.sendall(hiredis.pack_command(("GET", key)))


class Misses:
    """Clients, each asking a question that nobody has asked of one sentence after the other, until `running`
    ends. One thread does what all of them do: real ones are elsewhere, and take no processor from what is
    measured."""

    _number = itertools.count(1)

    def __init__(self, where: Sequence[Where], clients: int) -> None:
        self._where, self._clients = where, clients
        self._thread = threading.Thread(target=self._ask_all)
        self._over = threading.Event()
        self.done = 0
        self.errors: list[Exception] = []

    def _ask_all(self) -> None:
        step = max(1, self._clients // len(self._where))
        try:
            with ExitStack() as stack, selectors.DefaultSelector() as selector:
                for mine in range(self._clients):
                    turn, place = divmod(mine, len(self._where))
                    server, sentences = self._where[place]
                    address = HOST, server.port
                    connection = stack.enter_context(socket.create_connection(address, REPLY_LIMIT_S))
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client = _Client(connection, sentences, turn, step)
                    selector.register(connection, selectors.EVENT_READ, client)
                    client.ask(self._question())
                waiting = self._clients
                while waiting:
                    ready = selector.select(REPLY_LIMIT_S)
                    if not ready:
                        raise TimeoutError(f"no shard answers a miss within {REPLY_LIMIT_S:.0f} s")
                    for key, _ in ready:
                        answered = self._is_answered(key.data)
                        if answered and self._over.is_set():
                            waiting -= 1
                        elif answered:
                            key.data.ask(self._question())
        except Exception as error:
            self.errors.append(error)

    def _is_answered(self, client: _Client) -> bool:
        """Whether the reply is whole now. An error is raised."""
        received = client.socket.recv(1 << 16)
        if not received:
            raise ConnectionError("the shard closed the connection")
        client.replies.feed(received)
        reply = client.replies.gets()
        if isinstance(reply, Exception):
            raise reply
        if reply is False:
            return False
        self.done += 1
        return True

    def _question(self) -> str:
        return f"Who carried the virus, {next(self._number)}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """What fails of them is raised at the end."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()
        if self.errors:
            raise self.errors[0]

    def per_s(self, seconds: float) -> float:
        """How many are answered a second."""
        began_s = time.monotonic()
        with self.running():
            time.sleep(seconds)
        return self.done / (time.monotonic() - began_s)


def distinct(results: Results, options: Options, system: System, form: str, raw: ReadingProcess) -> None:
    """Rows of 50 clients and of one, in turns with the raw forward of the same sentences."""
    where = places(system)
    texts = [one.text for _, sentences in where for one in sentences]
    question = "Who carried the virus, 100"
    raw.ms(question, texts, apart=True)
    rates, raws = [], []
    for _ in range(options.size.rounds):
        raws.append(1000 * len(texts) / raw.ms(question, texts, apart=True))
        rates.append(Misses(where, CLIENTS).per_s(options.size.seconds))
    floor = beside(f"raw forward, {form}", rates, raws)
    goal = at_least(0.9, floor.ratio, "at least 0.90 of raw")
    what = f"different misses, {CLIENTS} clients, {form}"
    results.add(Row.of("distinct", what, "/s", rates, beside=floor, goal=goal))

    alone = where[:1]
    texts = [one.text for one in alone[0][1]]
    each, raws = [], []
    for _ in range(options.size.rounds):
        raws.append(raw.ms(question, texts, in_turn=True, apart=True) / len(texts))
        each.append(1000 / Misses(alone, 1).per_s(options.size.seconds))
    floor = beside(f"raw forward, {form}, one thread", each, raws)
    goal = at_most(floor.value + 2, statistics.median(each), f"at most raw + 2 ms: {floor.value + 2:.1f} ms")
    what = f"different misses, one client, {form}"
    results.add(Row.of("distinct", what, "ms", each, beside=floor, goal=goal))


def coalesced(results: Results, options: Options, system: System) -> None:
    """50 clients who all miss a key that nobody has asked for."""
    server, sentences = places(system)[0]
    took, calls = [], []
    for turn in range(options.size.rounds):
        one = sentences[turn % len(sentences)]
        key = one.answer_key(f"Who carried the virus together, {turn}")
        before = system.model_calls(key)
        took.append(redis_benchmark(server.port, CLIENTS, CLIENTS, "get", key)[1])
        calls.append(float(system.model_calls(key) - before))
    goal = at_most(1.0, max(calls), "one run of the model")
    note = f"p50 of {CLIENTS} clients; runs of the model: {max(calls):.0f}"
    results.add(Row.of("coalesced", f"{CLIENTS} clients miss one key", "ms", took, goal=goal, note=note))


def original(results: Results, options: Options, system: System) -> None:
    """`redis-benchmark -n 10` as the original was measured: of one key while nothing is cached, and of a new
    key each time. Its 50 clients at once, and one."""
    server, sentences = places(system)[0]
    one = sentences[0]
    for what, key, cache in (
        ("of one key, cache off", one.answer_key("Who carried the virus at first"), "no"),
        ("of a new key each time", one.answer_key("Who carried the virus, __rand_int__"), "yes"),
    ):
        for clients in (CLIENTS, 1):
            with server.client() as client:
                client.config_set("keymiss.cache", cache)
            try:
                took = [
                    redis_benchmark(server.port, clients, ORIGINAL_REQUESTS, "get", key)[1]
                    for _ in range(options.size.rounds)
                ]
            finally:
                with server.client() as client:
                    client.config_set("keymiss.cache", "yes")
            at_once = "all at once" if clients > 1 else "one after the other"
            name = f"redis-benchmark -n {ORIGINAL_REQUESTS} {what}, {at_once}"
            results.add(Row.of("original", name, "ms", took, note="p50"))


def saturated(results: Results, options: Options, system: System) -> None:
    """PING and GETs that hit, on a shard that is idle, and while 50 clients have questions answered."""
    where = places(system)
    server, sentences = where[0]
    hit = sentences[0].answer_key("Who carried the virus home")
    with server.client() as client:
        client.get(hit)
    seconds = 2 * options.size.seconds
    idle = probe(server.port, hit, seconds)
    misses = Misses(where, CLIENTS)
    with misses.running():
        busy = probe(server.port, hit, seconds)
    load = f"while {misses.done / seconds:.0f} questions a second are answered"
    for what, name in (("GET that hits", "get"), ("PING", "ping")):
        compared = Beside("idle", idle[name]["p99"], busy[name]["p99"] / idle[name]["p99"])
        goal = (
            at_most(3.0, compared.ratio, "at most 3 x idle")
            if name == "get"
            else at_most(2.0, busy[name]["p99"], "under 2 ms")
        )
        results.add(
            Row(
                "saturated",
                f"{what}, p99, {CLIENTS} clients who miss",
                busy[name]["p99"],
                "ms",
                busy[name]["p50"],
                busy[name]["max"],
                int(busy[name]["n"]),
                compared,
                goal,
                f"p50 and most beside it; {load}",
            )
        )


def probe(port: int, key: str, seconds: float) -> dict[str, dict[str, float]]:
    """Of a process of its own: this one's threads would measure each other."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("latency_probe.py")),
        str(port),
        key,
        str(seconds),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + 10 * seconds)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found
