"""`keymiss scale`: a master is added and removed while questions are asked and articles come in; no answer is
wrong, all is there afterwards and after a restart. What it cannot do, it says."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis.cluster import RedisCluster

from keymiss import Client, KeymissError
from keymiss.addresses import parse_addresses
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.redis_cluster import open_cluster, shards_of
from keymiss.cluster.topology import count_slots
from keymiss.keys import SLOTS
from keymiss.local.processes import Supervisor
from keymiss.local.redis_users import password_of
from keymiss.settings import Settings
from keymiss.worker.model_processes.memory import family_of
from tests.cluster import pipeline
from tests.cluster.test_slots_move import ANIMALS, colour, new_sentence, question, write_articles
from tests.e2e.test_start_stop import Local
from tests.e2e.test_up import done, keymiss
from tests.patience import patient
from tests.servers import REPO, open_folder, wait_until

pytestmark = pytest.mark.timeout(patient(400))


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """Two masters with a replica each, and articles in many slots; the ports of a third are free."""
    system = Local(open_folder(), masters=3)
    system.env |= {"KEYMISS_MASTERS": "2", "KEYMISS_MODEL_FORM": "torchscript"}
    system.settings = Settings.from_env(system.env)
    system.supervisor = Supervisor(system.settings)
    try:
        done(system, "up")
        del system.env["KEYMISS_MASTERS"], system.env["KEYMISS_REPLICAS"]  # as before, from now on
        with administrator(system) as client:
            write_articles(client)
            pipeline.settle(client)
        wait_until(lambda: found(system), 30, "all is found")
        yield system
    finally:
        system.supervisor.stop()
    for log in ("worker", "api"):
        print(system.supervisor.tail(log))


@contextmanager
def administrator(local: Local) -> Iterator[RedisCluster]:
    admin = Credentials("admin", password_of(local.settings, "admin"))
    with open_cluster(parse_addresses(local.settings.nodes), admin, decode_responses=True) as client:
        yield client


class Load:
    """Somebody asks, and somebody writes articles, all the time."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._stop = threading.Event()
        self.right, self.partial = 0, 0
        self.wrong: list[str] = []
        self.refused: list[str] = []
        self.written: list[str] = []

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=body) for body in (self._ask, self._write)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        at = 0
        with Client(f"https://localhost:{self._local.settings.https_port}", verify=False) as client:
            while not self._stop.is_set():
                animal = ANIMALS[at % len(ANIMALS)]
                at += 1
                try:
                    said = client.ask(question(animal))
                except KeymissError as error:
                    self.refused.append(str(error))
                    continue
                covered = said.coverage
                if said.results and colour(animal) in said.results[0].answer:
                    self.right += 1
                elif (
                    covered.sentences.answered < covered.sentences.asked
                    or covered.shards.unindexed
                    or covered.unused
                ):
                    self.partial += 1
                else:
                    self.wrong.append(f"{animal}: {said}")

    def _write(self) -> None:
        with administrator(self._local) as client:
            while not self._stop.wait(0.5):
                name = f"A-new{len(self.written)}"
                pipeline.write(client, name, new_sentence(name), year=2019)
                self.written.append(name)


def slots(client: RedisCluster) -> list[int]:
    return [count_slots(shard.slots) for shard in shards_of(client)]


def rests(local: Local) -> bool:
    """Whether the last two nodes are in step, and write no file."""
    master, replica = local.settings.ports[-2:]
    with local.admin(master) as client:
        replicas = client.info("replication")["connected_slaves"]
    with local.admin(replica) as client:
        written = client.info("persistence")
        linked = client.info("replication").get("master_link_status") == "up"
    return bool(replicas and linked and not written["aof_rewrite_in_progress"])


def found(local: Local) -> bool:
    with Client(f"https://localhost:{local.settings.https_port}", verify=False) as client:
        best = [(animal, client.ask(question(animal)).results[:1]) for animal in ANIMALS]
    return all(one and colour(animal) in one[0].answer for animal, one in best)


def test_without_a_system() -> None:
    said = keymiss(Local(open_folder()), "scale", "add")
    assert said.returncode == 1
    assert "Keymiss is not running here: keymiss up starts it." in said.stderr


def test_a_master_joins_and_leaves_under_load(local: Local) -> None:
    with administrator(local) as client:
        pids = {name: local.pid_of(name) for name in local.supervisor.states()}
        with Load(local) as load:
            said = done(local, "scale", "add")
            assert "3 masters, 1 replica(s) each, and all is whole" in said
            assert re.search(r"slots moved, [1-9]\d* keys", said)
            local.settings = local.supervisor.settings = Settings.from_env(local.env)
            assert sorted(slots(client)) == [SLOTS // 3, SLOTS // 3, SLOTS // 3 + 1]
            states = local.supervisor.states()
            assert {f"redis:{port}" for port in local.settings.ports} <= states.keys()
            assert {name: local.pid_of(name) for name in pids} == pids  # nothing was started again
            wait_until(lambda: found(local), 20, "all is found on three")
            said = done(local, "scale", "remove")
            assert "2 masters, 1 replica(s) each, and all is whole" in said
            local.settings = local.supervisor.settings = Settings.from_env(local.env)
            assert slots(client) == [SLOTS // 2, SLOTS // 2]
            wait_until(lambda: found(local), 20, "all is found on two")
        print(f"{load.right} right, {load.partial} in part, refused: {load.refused}")
        assert not load.wrong
        assert load.right > 10 * (load.partial + len(load.refused))
        pipeline.settle(client)
        for name in load.written:
            assert pipeline.sentences_of(client, name) == [new_sentence(name)], name
    assert sorted(path.name for path in local.settings.data.iterdir() if path.is_dir()) == [
        str(port) for port in local.settings.ports
    ]
    assert "!!" not in done(local, "doctor")


def test_what_is_added_is_there_after_a_restart(local: Local) -> None:
    """And a node that is added again, and crashes, is started again."""
    done(local, "scale", "add")
    local.settings = local.supervisor.settings = Settings.from_env(local.env)
    name = f"redis:{local.settings.ports[-2]}"
    pid = local.pid_of(name)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: local.pid_of(name) not in (0, pid), 30, "it is started again")
    # A replica that writes its first file after it has got all of its master refuses SIGTERM.
    wait_until(lambda: rests(local), 30, "the replica has written its file")
    done(local, "down")
    said = done(local, "up")
    assert "3 masters, 1 replica(s) each: cluster up" in said
    wait_until(lambda: found(local), 30, "all is found")
    assert "!!" not in done(local, "doctor")


def test_an_interrupted_one_goes_on(local: Local) -> None:
    """Killed while slots move."""
    command = [str(REPO / "scripts" / "keymiss"), "scale", "remove"]
    begun = subprocess.Popen(command, env={**os.environ, **local.env}, stdout=subprocess.PIPE, text=True)
    assert begun.stdout
    assert any("slots moved" in line for line in begun.stdout)  # a tenth of them
    for pid in family_of(begun.pid):  # root's part, and that of the processes' user
        os.kill(pid, signal.SIGKILL)
    begun.wait()
    begun.stdout.close()
    with administrator(local) as client:
        assert max(slots(client)) - min(slots(client)) > 1
        done(local, "scale", "balance")
        assert max(slots(client)) - min(slots(client)) <= 1
    wait_until(lambda: found(local), 30, "all is found")


def test_what_it_cannot_do_it_says(local: Local) -> None:
    port = local.settings.ports[-1] + 1
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        said = keymiss(local, "scale", "add")
    assert said.returncode == 1
    assert f"Port {port} (for a Redis node) is in use" in said.stderr
    local.env["KEYMISS_NODES"] = local.settings.nodes
    said = keymiss(local, "scale", "add")
    assert said.returncode == 1
    assert "redis-cli --cluster" in said.stderr
    del local.env["KEYMISS_NODES"]
    local.env["KEYMISS_MASTERS"] = "2"
    said = keymiss(local, "scale", "remove")
    assert said.returncode == 1
    assert "of a cluster with 3 masters" in said.stderr
    del local.env["KEYMISS_MASTERS"]
