"""Slots move by `redis-cli --cluster`, masters join and leave: what was made of articles goes along, models
and registrations are on every master, and answers stay right."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import redis
from redis.cluster import RedisCluster

from keymiss import KeymissError, keys
from keymiss.cluster.redis_cluster import masters_of, shards_of
from keymiss.models import load
from tests.api.processes import ApiProcess
from tests.cluster import pipeline
from tests.cluster.redis_cli_cluster import add_masters, move_slots, remove_masters
from tests.patience import patient
from tests.servers import RedisClusterServers, WorkerProcess, wait_until

ANIMALS = (
    *("badger", "beaver", "buzzard", "camel", "cheetah", "crane", "dolphin", "donkey", "eagle", "falcon"),
    *("ferret", "gazelle", "gecko", "heron", "hyena", "jackal", "kestrel", "lemur", "lizard", "magpie"),
)
COLOURS = ("crimson", "turquoise", "violet", "amber", "silver")
TABLE = pipeline.table("C1,influenza,flu", "C2,fever,")
NODE_TIMEOUT_MS = 2000  # of tests.servers: a master that is held up for longer is failed over
FOLLOWS_S = 2.0
"""What has moved is found by the API, and answered, within so long."""


def question(animal: str) -> str:
    return f"Which colour did the {animal} have"


def colour(animal: str) -> str:
    return COLOURS[ANIMALS.index(animal) % len(COLOURS)]


def write_articles(client: RedisCluster) -> None:
    for animal in ANIMALS:
        told = f"The {animal} of the village had a {colour(animal)} colour in those days."
        pipeline.write(client, f"A-{animal}", told, "Influenza often begins with fever.", year=2019)


@dataclass
class System:
    servers: RedisClusterServers
    worker: WorkerProcess
    client: RedisCluster
    api: ApiProcess

    def settle(self) -> None:
        pipeline.settle(self.client)

    def refresh(self) -> None:
        """The client learns what moved."""
        self.client.nodes_manager.initialize()


@pytest.fixture
def system() -> Iterator[System]:
    args = ("--cluster-require-full-coverage", "no")
    with (
        RedisClusterServers(*args, masters=4) as servers,
        WorkerProcess(servers) as worker,
        servers.client(decode_responses=True) as client,
    ):
        pipeline.upload(client, *pipeline.SCRIPTS, "qa.py")
        pipeline.store_table(client, TABLE)
        assert load.main(["--nodes", servers.addresses]) == 0
        write_articles(client)
        pipeline.settle(client)
        with ApiProcess(servers.addresses, wait_indexed=4) as api:
            yield System(servers, worker, client, api)


def ask(api: ApiProcess, animal: str) -> str | None:
    """What the best answer says; None if the coverage says that something is missing."""
    found = api.ask(question(animal))
    best = found.results[0].answer if found.results else ""
    if colour(animal) in best:
        return best
    covered = found.coverage
    missing = (
        covered.sentences.answered < covered.sentences.asked or covered.shards.unindexed or covered.unused
    )
    return None if missing else f"wrong: {best}, coverage {covered}"


def found_all(system: System) -> bool:
    return all(colour(animal) in (ask(system.api, animal) or "") for animal in ANIMALS)


@dataclass
class Load:
    """Clients that ask all the time: what they were told. One more writes articles, and one asks every master
    how long a PING takes."""

    system: System
    clients: int = 3
    right: int = 0
    partial: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    longest_ping_ms: float = 0.0

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._body, args=(n,)) for n in range(self.clients)]
        self._threads += [threading.Thread(target=self._write), threading.Thread(target=self._ping)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _body(self, number: int) -> None:
        at = number
        while not self._stop.wait(0.03):  # a pace: other tests run too
            animal = ANIMALS[at % len(ANIMALS)]
            at += 1
            try:
                said = ask(self.system.api, animal)
            except KeymissError as error:
                self.refused.append(str(error))
                continue
            if said is None:
                self.partial += 1
            elif said.startswith("wrong"):
                self.wrong.append(f"{animal}: {said}")
            else:
                self.right += 1

    def _write(self) -> None:
        with self.system.servers.client(decode_responses=True) as client:
            while not self._stop.wait(0.25):
                name = f"A-new{len(self.written)}"
                try:
                    pipeline.write(client, name, new_sentence(name), year=2019)
                except redis.RedisError:
                    continue  # it is written again
                self.written.append(name)

    def _ping(self) -> None:
        clients: dict[int, redis.Redis] = {}
        while not self._stop.wait(0.02):
            for node in [each for each in self.system.servers.nodes if each.alive]:
                began_s = time.monotonic()
                try:
                    clients.setdefault(node.port, node.client()).ping()
                except redis.RedisError:
                    continue  # it leaves
                self.longest_ping_ms = max(self.longest_ping_ms, (time.monotonic() - began_s) * 1000)
        for client in clients.values():
            client.close()

    def figures(self) -> str:
        return (
            f"{self.right} right, {len(self.wrong)} wrong, {self.partial} with something missing, "
            f"{len(self.refused)} refused; {len(self.written)} articles written; "
            f"no PING took more than {self.longest_ping_ms:.0f} ms"
        )


def new_sentence(name: str) -> str:
    return f"Influenza came to the village of {name} with fever in the winter."


def keys_of(client: RedisCluster, animal: str) -> list[str]:
    found = client.scan_iter(f"*A-{animal}*", count=1000, target_nodes=RedisCluster.PRIMARIES)
    return sorted(set(found))


def first_slots_have(animal: str, slots: int) -> bool:
    return keys.slot_of(keys.paragraphs_key(f"A-{animal}")) % 4096 < slots


def models_on(client: redis.Redis) -> set[str]:
    rows = client.execute_command("KM.MODELS")
    fields = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    return {keys.without_tag(each["key"]) for each in fields if each["has_key"]}


def wait_whole(system: System) -> None:
    """Every master has what each should have, and nothing waits."""
    system.refresh()
    ids = set[str]()

    def whole() -> bool:
        nonlocal ids
        system.refresh()
        for shard, master in masters_of(system.client):
            there = {row[0] for row in master.execute_command("KM.REGISTRATIONS")}
            ids |= there
            if there != ids or models_on(master) != {keys.READER}:
                return False
            if master.exists(keys.model_key(shard.tag), keys.concept_table_key(shard.tag)) != 2:
                return False
        return True

    wait_until(whole, 30, "every master has all")
    system.settle()


def wait_even(system: System) -> None:
    """A model that has just come is twice in memory for some seconds: in a client's buffer, too."""

    def even() -> bool:
        used = [int(master.info("memory")["used_memory"]) for _, master in masters_of(system.client)]
        mean = sum(used) / len(used)
        return all(0.8 * mean < one < 1.2 * mean for one in used)

    wait_until(even, 20, "memory is even")


def test_a_fifth_of_a_shard_moves(system: System) -> None:
    """The lowest slots, where the shard's tag was: nothing is lost, doubled, or answered after it is gone."""
    source, to = system.servers.masters[:2]
    made = {animal: keys_of(system.client, animal) for animal in ANIMALS}
    graph = pipeline.graph(system.client)
    assert found_all(system)
    move_slots(source, to, 1000)
    began_s = time.monotonic()
    wait_until(lambda: found_all(system), 20, "every article is found")
    assert time.monotonic() - began_s < patient(FOLLOWS_S) + 5
    wait_whole(system)
    for animal in ANIMALS:
        now = [key for key in keys_of(system.client, animal) if not key.startswith("bert")]
        assert now == [key for key in made[animal] if not key.startswith("bert")]
    assert pipeline.graph(system.client) == graph
    assert len(system.worker.log_text().split('"job_failed"')) < 3
    moved = next(animal for animal in ANIMALS if first_slots_have(animal, 1000))
    span = keys.span_key(f"A-{moved}", keys.article_tag(f"A-{moved}"), 0, question(moved).lower())
    assert json.loads(system.client.get(span))["answer"]
    pipeline.delete(system.client, f"A-{moved}")
    system.settle()
    wait_until(lambda: not keys_of(system.client, moved), 10, "all of it is gone")
    with pytest.raises(redis.ResponseError, match="there is no sentence"):
        system.client.get(span)
    assert all(
        not member.startswith(f"A-{moved}:") for of in pipeline.graph(system.client).values() for member in of
    )


def assert_all_written(system: System, written: list[str]) -> None:
    """Each once, on one master. One that was written while its slot was on its way comes when all keys of the
    shard are looked at again."""
    wait_until(
        lambda: all(pipeline.sentences_of(system.client, name) == [new_sentence(name)] for name in written),
        20,
        "all that was written is there",
    )
    found: list[str] = []
    for _, master in masters_of(system.client):
        found += [key for key in master.scan_iter("sentence:A-new*", count=1000) if master.exists(key)]
    assert sorted(found) == sorted(keys.sentence_key(name, keys.article_tag(name)) for name in written)


def test_an_article_is_written_while_its_slot_is_on_its_way(system: System) -> None:
    """The functions that it is for are refused by both shards, until the slot has arrived."""
    source, to = system.servers.masters[:2]
    slots = {name: keys.slot_of(keys.paragraphs_key(name)) for name in map("A-new{}".format, range(100))}
    name, slot = next((name, slot) for name, slot in slots.items() if slot < 4096)  # the source's
    ids = [node.client().execute_command("CLUSTER", "MYID") for node in (source, to)]
    to.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    pipeline.write(system.client, name, new_sentence(name))
    wait_until(lambda: "MovedError" in system.worker.log_text(), 10, "a function was refused")
    for node in (to, source, *system.servers.masters[2:]):
        node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    system.refresh()
    assert_all_written(system, [name])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("cache", ["yes", "no"])
def test_masters_join_and_leave_under_load(system: System, cache: str) -> None:
    """What is asked is kept, or computed each time."""
    for _, master in masters_of(system.client):
        master.config_set("keymiss.cache", cache)
    with Load(system) as asking:
        new = add_masters(system.servers, 2)
        wait_whole(system)
        assert len(shards_of(system.client)) == 6
        wait_until(lambda: found_all(system), 20, "every article is found on six")
        wait_even(system)
        remove_masters(system.servers, [new[0], *system.servers.nodes[2:4]])
        wait_whole(system)
        assert len(shards_of(system.client)) == 3
        wait_until(lambda: found_all(system), 20, "every article is found on three")
        wait_even(system)
    print(asking.figures())
    system.settle()
    assert_all_written(system, asking.written)
    assert asking.longest_ping_ms < NODE_TIMEOUT_MS
    assert not asking.wrong
    assert asking.right > 10 * (asking.partial + len(asking.refused))
