"""The module's state machine beside a model of it: flights, events, derived keys, workers, clients.

One thread does one step after the other, chosen by a seed, so a seed is a replay. After each step every
client that the model says is answered has that answer, and now and then the module's figures are the model's
and no other client has been told anything. KEYMISS_TEST_STEPS says how many steps; what a longer run finds is
kept in SEEDS.
"""

from __future__ import annotations

import os
import random
import select
import socket
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import hiredis
import pytest

from tests.hand_worker import bulk, register_events, register_miss
from tests.patience import patient
from tests.servers import RedisServer, keymiss_info, wait_until

STEPS = int(os.environ.get("KEYMISS_TEST_STEPS", "100000"))
SEEDS = (1, 2)
CLIENTS, WORKERS = 8, 3
MISS_ATTEMPTS, EVENT_ATTEMPTS = 2, 8
MISSES = [f"miss:{n}" for n in range(6)]
DOCS = [f"doc:{n}" for n in range(3)]
SOURCES = ["source:0", "source:1"]
LOOK_EVERY = 500


class Line:
    """A connection; a reply is read when the test wants it."""

    def __init__(self, server: RedisServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=patient(10))
        self.reader = hiredis.Reader()
        self.id: int = self.ask("CLIENT", "ID")

    def send(self, *words: Any) -> None:
        self.socket.sendall(hiredis.pack_command(tuple(w if isinstance(w, bytes) else str(w) for w in words)))

    def read(self) -> Any:
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(65536)
            assert data, "the server closed the connection"
            self.reader.feed(data)
        return reply

    def ask(self, *words: Any) -> Any:
        self.send(*words)
        return self.read()


@dataclass(eq=False)
class Asker:
    """A client that waits: what it asked for, and what it has of that."""

    keys: list[str]
    many: bool
    there: list[int]
    values: list[Any]
    waits_for: set[int]


@dataclass(eq=False)
class Flight:
    """A miss's job. `waiters`: a client, and which of its keys."""

    key: str
    waiters: list[tuple[int, int]] = field(default_factory=list)
    id: int = 0
    attempts: int = 0
    owner: int | None = None


@dataclass(eq=False)
class Event:
    """An event's job, and the later ones that wait behind it while it runs."""

    registration: str
    key: str
    coalesces: bool
    id: int = 0
    attempts: int = 0
    owner: int | None = None
    parked: list[Event] = field(default_factory=list)

    @property
    def serial(self) -> tuple[str, str]:
        """What runs one after the other."""
        return self.registration, self.key if self.coalesces else ""


Job = Flight | Event


class Model:
    """What the module should do. `told`: client -> the reply that it has got since the last step."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.made_from: dict[str, set[str]] = {}
        self.flights: dict[str, Flight] = {}
        self.questions: list[Flight] = []
        self.events: list[Event] = []
        self.indexed: dict[tuple[str, str], Event] = {}
        self.serial: dict[tuple[str, str], Event] = {}
        self.running: list[Job] = []
        self.waiting: dict[int, Asker] = {}
        self.told: dict[int, Any] = {}

    # ---- keys

    def changed(self, key: str, value: bytes | None) -> None:
        if value is None:
            if self.values.pop(key, None) is None:  # there is no event either
                return
        else:
            self.values[key] = value
        self.made_from.pop(key, None)
        for derived in [each for each, sources in self.made_from.items() if key in sources]:
            del self.values[derived], self.made_from[derived]

    def set_doc(self, key: str) -> None:
        self.values[key] = b"x"
        for registration, coalesces in (("events-6", True), ("events-5", False)):  # the newest first
            event = Event(registration, key, coalesces)
            if coalesces and (registration, key) in self.indexed:
                continue
            if coalesces:
                self.indexed[registration, key] = event
            self.events.append(event)

    # ---- clients

    def ask(self, client: int, keys: list[str], many: bool) -> None:
        asker = Asker(keys, many, [0] * len(keys), [None] * len(keys), set())
        self.waiting[client] = asker
        for i, key in enumerate(keys):
            if key in self.values:
                asker.there[i], asker.values[i] = 1, self.values[key]
                continue
            flight = self.flights.get(key)
            if flight is None:
                flight = self.flights[key] = Flight(key)
                self.questions.append(flight)
            flight.waiters.append((client, i))
            asker.waits_for.add(i)
        self._reply_if_whole(client)

    def _reply_if_whole(self, client: int) -> None:
        asker = self.waiting[client]
        if asker.waits_for:
            return
        del self.waiting[client]
        pairs = [[there, value] for there, value in zip(asker.there, asker.values, strict=True)]
        self.told[client] = pairs if asker.many else asker.values[0]

    def leaves(self, client: int, told: str | None) -> None:
        """It waits no more; `told`: what it gets for what is missing."""
        asker = self.waiting[client]
        for i in sorted(asker.waits_for):
            flight = self.flights[asker.keys[i]]
            flight.waiters.remove((client, i))
            asker.values[i] = told
            if not flight.waiters and flight.owner is None:
                self._end(flight)
        asker.waits_for.clear()
        self._reply_if_whole(client)
        if told is None:
            del self.told[client]

    # ---- jobs

    def pull(self, worker: int, most: int) -> list[Job]:
        taken: list[Job] = list(self.questions[:most])
        del self.questions[: len(taken)]
        runs = len(taken)
        while runs < most and self.events:
            event = self.events.pop(0)
            first = self.serial.get(event.serial)
            if first is not None:
                first.parked += [event, *event.parked]
                event.parked = []
                continue
            self.serial[event.serial] = event
            self._unindex(event)
            taken.append(event)
            runs += 1
        for job in taken:
            job.owner = worker
            job.attempts += 1
        self.running += taken
        return taken

    def _unindex(self, event: Event) -> None:
        if self.indexed.get((event.registration, event.key)) is event:
            del self.indexed[event.registration, event.key]

    def _end(self, job: Job) -> None:
        if isinstance(job, Flight):
            del self.flights[job.key]
            if job.owner is None:
                self.questions.remove(job)
        else:
            del self.serial[job.serial]
            if job.parked:
                oldest, *others = job.parked
                oldest.parked = others
                self.events.insert(0, oldest)
        if job in self.running:
            self.running.remove(job)

    def answered(self, job: Job, reply: Any) -> None:
        """The job ends, and so do its clients' waits for it."""
        waiters = job.waiters if isinstance(job, Flight) else []
        self._end(job)
        for client, i in waiters:
            asker = self.waiting[client]
            asker.values[i] = reply
            asker.waits_for.remove(i)
        for client in {client for client, _ in waiters}:
            self._reply_if_whole(client)

    def goes_back(self, job: Job) -> None:
        """To the head of its queue."""
        self.running.remove(job)
        job.owner = None
        if isinstance(job, Flight):
            self.questions.insert(0, job)
            if not job.waiters:
                self._end(job)
        else:
            del self.serial[job.serial]
            self.events.insert(0, job)

    def worker_goes(self, worker: int) -> None:
        for job in [job for job in reversed(self.running) if job.owner == worker]:
            if job.attempts < (MISS_ATTEMPTS if isinstance(job, Flight) else EVENT_ATTEMPTS):
                self.goes_back(job)
            else:
                self.answered(job, "FAILED the worker died twice while it ran this; its log says why")

    def figures(self) -> dict[str, int]:
        jobs: list[Event] = [*self.events, *(job for job in self.running if isinstance(job, Event))]
        return {
            "jobs_queued": len(self.questions),
            "events_queued": len(self.events) + sum(len(job.parked) for job in jobs),
            "jobs_running": len(self.running),
            "clients_waiting": len(self.waiting),
            "derived_keys": len(self.made_from),
        }


class Machine:
    """Takes steps with the server and the model."""

    def __init__(self, server: RedisServer, seed: int) -> None:
        self.server, self.rng, self.model = server, random.Random(seed), Model()
        self.control = Line(server)
        self.clients = [Line(server) for _ in range(CLIENTS)]
        self.workers = [Line(server) for _ in range(WORKERS)]
        for worker in range(WORKERS):
            self.pull(worker)
        self.steps = {
            self.ask: 6,
            self.pull: 4,
            self.ends: 6,
            self.write: 3,
            self.derive: 2,
            self.unblock: 1,
            self.client_goes: 1,
            self.worker_goes: 0.3,
            self.says_it_again: 0.3,
        }
        self.ended: list[int] = []

    def step(self) -> None:
        (chosen,) = self.rng.choices(list(self.steps), list(self.steps.values()))
        chosen()
        for client, wanted in self.model.told.items():
            got = self.clients[client].read()
            assert _plain(got) == wanted, (client, got, wanted)
        self.model.told.clear()

    # ---- steps

    def ask(self) -> None:
        idle = [n for n in range(CLIENTS) if n not in self.model.waiting]
        if not idle:
            return
        client = self.rng.choice(idle)
        kind = self.rng.randrange(3)
        keys = [self.rng.choice(MISSES) for _ in range(self.rng.randrange(1, 4) if kind == 2 else 1)]
        words = [("GET", *keys), ("KM.MISS", *keys), ("KM.MISSES", len(keys), *keys)][kind]
        self.clients[client].send(*words)
        self.model.ask(client, keys, many=kind == 2)
        self.control.ask("PING")  # what others do next comes after it

    def pull(self, worker: int | None = None) -> None:
        worker = self.rng.randrange(WORKERS) if worker is None else worker
        most = self.rng.randrange(1, 4)
        rows = self.workers[worker].ask("KM.PULL", "model", most, 0) or []
        wanted = self.model.pull(worker, most)
        assert [(row[2], row[4]) for row in rows] == [
            (b"miss-0" if isinstance(job, Flight) else job.registration.encode(), job.key.encode())
            for job in wanted
        ]
        for job, row in zip(wanted, rows, strict=True):
            job.id = row[0]
            assert row[5] == job.attempts

    def ends(self) -> None:
        if not self.model.running:
            return
        job = self.rng.choice(self.model.running)
        assert job.owner is not None
        line, how = self.workers[job.owner], self.rng.randrange(6)
        self.ended.append(job.id)
        if how == 0:
            assert line.ask("KM.GIVEBACK", job.id) == 1
            job.attempts -= 1
            self.model.goes_back(job)
            self.ended.pop()
        elif how == 1:
            assert line.ask("KM.FAIL", job.id, "no luck") == 1
            self.model.answered(job, "FAILED no luck")
        else:
            value = b"answer %d" % self.rng.randrange(1000)
            if how < 4 and isinstance(job, Flight):  # kept, as functions do
                line.ask("SET", job.key, value)
                self.model.changed(job.key, value)
            assert line.ask("KM.DONE", job.id, bulk(value)) == 1
            self.model.answered(job, value)

    def write(self) -> None:
        key = self.rng.choice([*MISSES, *SOURCES, *SOURCES, *DOCS])
        if key in DOCS:
            self.control.ask("SET", key, "x")
            self.model.set_doc(key)
        elif self.rng.random() < 0.7:
            self.control.ask("DEL", key)
            self.model.changed(key, None)
        else:
            self.control.ask("SET", key, "written")
            self.model.changed(key, b"written")

    def derive(self) -> None:
        there = [key for key in MISSES if key in self.model.values]
        if there:
            key, sources = self.rng.choice(there), self.rng.sample(SOURCES, self.rng.randrange(1, 3))
            assert self.control.ask("KM.DERIVE", len(sources), *sources, key) == 1
            self.model.made_from[key] = set(sources)

    def unblock(self) -> None:
        if self.model.waiting:
            client = self.rng.choice(sorted(self.model.waiting))
            assert self.control.ask("CLIENT", "UNBLOCK", self.clients[client].id) == 1
            self.model.leaves(client, "TIMEOUT")

    def client_goes(self) -> None:
        client = self.rng.randrange(CLIENTS)
        if client in self.model.waiting:
            self.model.leaves(client, None)
        self.clients[client] = self._killed(self.clients[client])

    def worker_goes(self) -> None:
        worker = self.rng.randrange(WORKERS)
        self.workers[worker] = self._killed(self.workers[worker])
        self.model.worker_goes(worker)
        self.pull(worker)

    def _killed(self, line: Line) -> Line:
        assert self.control.ask("CLIENT", "KILL", "ID", line.id) == 1
        line.socket.close()
        return Line(self.server)

    def says_it_again(self) -> None:
        """Of a job that has ended."""
        if self.ended:
            words = self.rng.choice([("KM.DONE", "+OK\r\n"), ("KM.FAIL", "no luck"), ("KM.GIVEBACK",)])
            assert self.workers[0].ask(words[0], self.rng.choice(self.ended[-50:]), *words[1:]) == 0

    # ---- looks

    def look(self) -> None:
        stats = wait_until(self._stats, 10, "stale keys are removed")
        wanted = self.model.figures()
        assert {name: stats[name] for name in wanted} == wanted
        sockets = [line.socket for line in (*self.clients, *self.workers)]
        assert select.select(sockets, [], [], 0)[0] == [], "somebody was told what the model does not know of"

    def _stats(self) -> dict[str, int] | None:
        """The module's figures, when nothing stale is there any more."""
        flat = self.control.ask("KM.STATS")
        stats = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        return None if stats["derived_stale"] else stats

    def close(self) -> None:
        """Its connections."""
        for line in (self.control, *self.clients, *self.workers):
            line.socket.close()

    def drain(self) -> None:
        """Every job ends, and every client has its answer."""
        while self.model.questions or self.model.events or self.model.running:
            self.pull()
            while self.model.running:
                self.ends()
                for client, wanted in self.model.told.items():
                    assert _plain(self.clients[client].read()) == wanted
                self.model.told.clear()


def _plain(reply: Any) -> Any:
    """Errors as texts; of a limit only its word."""
    if isinstance(reply, list):
        return [_plain(one) for one in reply]
    if not isinstance(reply, Exception):
        return reply
    return "TIMEOUT" if str(reply).startswith("TIMEOUT") else str(reply)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_what_the_model_does(server: RedisServer, seed: int) -> None:
    with server.client() as client:
        client.config_set("keymiss.miss-timeout-ms", 86_400_000)
        client.config_set("keymiss.noworker-grace-ms", 60_000)
        register_miss(client, "miss:")
        register_events(client, "doc:", "set", ordinal=5, coalesce=False)
        register_events(client, "doc:", "set", ordinal=6, coalesce=True)
        with closing(Machine(server, seed)) as machine:
            for number in range(STEPS // len(SEEDS)):
                try:
                    machine.step()
                    if number % LOOK_EVERY == 0:
                        machine.look()
                except AssertionError as error:
                    error.add_note(f"step {number} of seed {seed}")
                    raise
            machine.drain()
            machine.look()
        client.flushall()
        wait_until(lambda: keymiss_info(client)["derived_sources"] == 0, 10, "no record is left")
        assert server.alive
