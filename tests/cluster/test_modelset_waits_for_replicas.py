"""AI.MODELSET replies when the replicas have the model: its clients know nothing of WAIT."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import redis

from tests.hand_worker import Asker
from tests.servers import RedisClusterServers, RedisServer, wait_until

BLOB = b"z" * 30_000_000  # more than the buffers of a socket to a replica that does not read
SET = ("AI.MODELSET", "m", "TORCH", "CPU", "BLOB", BLOB)


def follow(replica: RedisServer, master: RedisServer) -> None:
    with replica.client() as client:
        client.replicaof("127.0.0.1", master.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", 20)
    with master.client() as client:
        wait_until(lambda: client.info("replication")["slave0"]["state"] == "online", 20)


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and its replica."""
    with RedisServer() as master, RedisServer() as replica:
        follow(replica, master)
        yield master, replica


@pytest.fixture
def stuck(pair: tuple[RedisServer, RedisServer]) -> Iterator[tuple[RedisServer, RedisServer]]:
    """The same, but the replica reads nothing until it gets SIGCONT."""
    pair[1].signal(signal.SIGSTOP)
    yield pair
    pair[1].signal(signal.SIGCONT)


def waiting(master: RedisServer) -> bool:
    """A client of the master is blocked, and the model is there already."""
    with master.client() as client:
        return bool(client.info("clients")["blocked_clients"] == 1 and client.exists("m"))


def test_the_replica_has_it_when_it_replies(pair: tuple[RedisServer, RedisServer]) -> None:
    master, replica = pair
    with master.client() as client, replica.client() as mirror:
        for _ in range(3):
            assert client.execute_command(*SET) == b"OK"
            assert mirror.exists("m") == 1
            client.delete("m")


def test_it_waits_for_a_replica_that_is_behind(stuck: tuple[RedisServer, RedisServer]) -> None:
    master, replica = stuck
    asker = Asker(master, *SET)
    wait_until(lambda: waiting(master), 20, "the model is stored and its client waits")
    replica.signal(signal.SIGCONT)
    assert asker.result() == b"OK"
    with replica.client() as mirror:
        assert mirror.exists("m") == 1


def test_after_the_time_limit_it_is_stored_all_the_same(stuck: tuple[RedisServer, RedisServer]) -> None:
    master, _ = stuck
    with master.client() as client:
        client.config_set("keymiss.replica-wait-ms", 200)
        assert client.execute_command(*SET) == b"OK"
        assert client.exists("m") == 1
        assert "not every replica has it" in master.log_text()
        client.config_set("keymiss.replica-wait-ms", 0)  # it does not wait at all
        assert client.execute_command(*SET) == b"OK"
        assert client.info("clients")["blocked_clients"] == 0
    assert master.log_text().count("not every replica has it") == 1


def test_client_unblock_ends_the_wait(stuck: tuple[RedisServer, RedisServer]) -> None:
    master, _ = stuck
    asker = Asker(master, *SET)
    wait_until(lambda: waiting(master), 20)
    with master.client() as client:
        (blocked,) = [one["id"] for one in client.client_list() if "b" in one["flags"]]
        assert client.client_unblock(blocked) == 1
        assert asker.result() == b"OK"
        assert client.exists("m") == 1


def test_a_client_that_leaves_is_forgotten(stuck: tuple[RedisServer, RedisServer]) -> None:
    master, replica = stuck
    asker = Asker(master, *SET)
    wait_until(lambda: waiting(master), 20)
    with master.client() as client:
        (blocked,) = [one["id"] for one in client.client_list() if "b" in one["flags"]]
        client.client_kill_filter(_id=blocked)
        assert isinstance(asker.result(), redis.exceptions.ConnectionError)
        wait_until(lambda: client.info("clients")["blocked_clients"] == 0, 10)
        replica.signal(signal.SIGCONT)
        assert client.execute_command(*SET) == b"OK"  # the next one waits as the first would have


def test_a_replica_that_goes_ends_the_wait(stuck: tuple[RedisServer, RedisServer]) -> None:
    master, replica = stuck
    asker = Asker(master, *SET)
    wait_until(lambda: waiting(master), 20)
    replica.kill()
    assert asker.result() == b"OK"


def test_flushed_while_its_client_waits(stuck: tuple[RedisServer, RedisServer]) -> None:
    """The lazy-free thread must not share the arguments' reference counts with the main thread."""
    master, replica = stuck
    asker = Asker(master, "AI.MODELSET", "m", "TORCH", "CPU", "BLOB", *[b"z" * 1000] * 1000)
    wait_until(lambda: waiting(master), 20)
    with master.client() as client:
        client.execute_command("FLUSHALL", "ASYNC")
        replica.signal(signal.SIGCONT)
        assert asker.result() == b"OK"
        assert client.ping()


def test_a_master_that_becomes_a_replica_lets_its_client_go() -> None:
    with RedisServer() as other, RedisServer() as master, RedisServer() as replica:
        follow(replica, master)
        replica.signal(signal.SIGSTOP)
        asker = Asker(master, *SET)
        wait_until(lambda: waiting(master), 20)
        with master.client() as client:
            client.replicaof("127.0.0.1", other.port)
            assert isinstance(asker.result(), redis.exceptions.RedisError)
            wait_until(lambda: client.info("clients")["blocked_clients"] == 0, 10)
        replica.signal(signal.SIGCONT)


def test_found_after_the_failover_that_comes_right_after_it() -> None:
    with RedisClusterServers(masters=3, replicas=1) as cluster:
        master, replica = cluster.masters[0], cluster.replicas[0]
        with master.client() as client:
            slot = client.execute_command("CLUSTER", "KEYSLOT", "bert-qa{06S}")
        assert slot < 16384 // 3
        with master.client() as client:
            assert client.execute_command("AI.MODELSET", "bert-qa{06S}", *SET[2:]) == b"OK"
        master.kill()
        with replica.client() as heir:
            wait_until(lambda: heir.info("replication")["role"] == "master", 30, "the replica is promoted")
            assert heir.execute_command("AI.INFO", "bert-qa{06S}")[5] == b"TORCH"
