"""No GET of a watched key ends a server, whatever becomes of the GET and of the key.

The key has just expired, or is there, or was evicted; the GET is queued in MULTI, refused (NOPERM, NOAUTH),
sent to the wrong shard or a replica, run by a script, held back by CLIENT PAUSE, or sent with CLIENT
NO-TOUCH. Drawn by a seed: one seed, one order of things.

Environment: KEYMISS_CRASH_ROUNDS, how many GETs (ordinarily 300).
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

import pytest
import redis

from tests.hand_worker import register_miss
from tests.servers import RedisClusterServers, RedisServer, wait_until

ROUNDS = int(os.environ.get("KEYMISS_CRASH_ROUNDS", "300"))
BATCH = 20
TAGS = {"mine": "{a}", "other": "{b}"}  # slots 15495 and 3300: one on each of two masters
ADMIN = {"username": "admin", "password": "for-tests"}


@pytest.fixture
def shards() -> Iterator[RedisClusterServers]:
    """Two masters with a replica each and an AOF; the default user may only log in elsewhere."""
    with RedisClusterServers(masters=2, replicas=1, appendonly=True) as cluster:
        for node in cluster.nodes:
            client = node.client()
            client.execute_command("ACL SETUSER admin on >for-tests ~* &* +@all")
            client.execute_command("ACL SETUSER noget on >for-tests ~* +@all -get -km.miss")
            client.execute_command("ACL SETUSER nokey on >for-tests ~nothing +@all")
            client.config_set("masteruser", "admin")
            client.config_set("masterauth", "for-tests")
            client.config_set("keymiss.noworker-grace-ms", 0)
            client.execute_command("DEBUG SET-ACTIVE-EXPIRE 0")  # a key expires when it is looked at
        for node in cluster.nodes:
            node.client().execute_command("ACL SETUSER default resetpass off")
            node.login.update(ADMIN)
        cluster.login.update(ADMIN)
        for master in cluster.masters:
            register_miss(master.client())
        yield cluster


class Raw:
    """A connection that can send without waiting for the reply."""

    def __init__(self, server: RedisServer, login: str = "admin", *, no_touch: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), 10)
        self.file = self.socket.makefile("rb")
        if login:
            assert self.ask("AUTH", login, "for-tests") == b"+OK"
        if no_touch and server_knows_no_touch(server):
            assert self.ask("CLIENT", "NO-TOUCH", "ON") == b"+OK"

    def send(self, *words: str) -> None:
        arguments = [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(arguments))

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def line(self) -> bytes:
        """The first line of a reply; b'' when the connection ended."""
        first = self.file.readline().rstrip(b"\r\n")
        if first[:1] == b"$" and first != b"$-1":
            return self.file.read(int(first[1:]) + 2)[:-2]
        return first

    def ask(self, *words: str) -> bytes:
        self.send(*words)
        return self.line()


def server_knows_no_touch(server: RedisServer) -> bool:
    """From 7.2 on; 7.0 has no such command."""
    return tuple(int(n) for n in server.client().info("server")["redis_version"].split(".")[:2]) >= (7, 2)


class Acts:
    """What can become of a GET. Each sends it; what it is answered with is not the point, only that it is."""

    def __init__(self, shards: RedisClusterServers) -> None:
        self.master = shards.server_of("x" + TAGS["mine"])
        self.wrong = next(m for m in shards.masters if m is not self.master)
        self.replica = shards.replicas[shards.masters.index(self.master)]
        self.admin, self.plain = Raw(self.master), Raw(self.master, no_touch=True)
        self.noget, self.nokey = Raw(self.master, "noget"), Raw(self.master, "nokey")
        self.nobody = Raw(self.master, "")
        self.elsewhere, self.reader = Raw(self.wrong), Raw(self.replica)
        self.connections = [it for it in vars(self).values() if isinstance(it, Raw)]
        assert self.reader.ask("READONLY") == b"+OK"
        self.all: list[Callable[[str], bytes]] = [
            self.plainly, self.queued, self.executed, self.watched, self.in_lua, self.not_allowed,
            self.not_this_key, self.not_logged_in, self.on_another_shard, self.on_a_replica, self.paused,
        ]  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.close()

    def plainly(self, key: str) -> bytes:
        return self.plain.ask("GET", key)

    def queued(self, key: str) -> bytes:
        self.admin.ask("MULTI")
        self.admin.ask("GET", key)
        return self.admin.ask("DISCARD")

    def executed(self, key: str) -> bytes:
        self.admin.ask("MULTI")
        self.admin.ask("GET", key)
        return self.exec()

    def exec(self) -> bytes:
        count = self.admin.ask("EXEC")
        return self.admin.line() if count == b"*1" else count  # else a null, or an error

    def watched(self, key: str) -> bytes:
        self.admin.ask("WATCH", key)
        self.admin.ask("MULTI")
        self.admin.ask("GET", key)
        return self.exec()

    def in_lua(self, key: str) -> bytes:
        return self.admin.ask("EVAL", "return redis.call('GET', KEYS[1])", "1", key)

    def not_allowed(self, key: str) -> bytes:
        reply = self.noget.ask("GET", key)
        assert reply.startswith(b"-NOPERM"), reply
        return reply

    def not_this_key(self, key: str) -> bytes:
        reply = self.nokey.ask("GET", key)
        assert reply.startswith(b"-NOPERM"), reply
        return reply

    def not_logged_in(self, key: str) -> bytes:
        reply = self.nobody.ask("GET", key)
        assert reply.startswith(b"-NOAUTH"), reply
        return reply

    def on_another_shard(self, key: str) -> bytes:
        reply = self.elsewhere.ask("GET", key)
        assert reply.startswith(b"-MOVED"), reply
        return reply

    def on_a_replica(self, key: str) -> bytes:
        return self.reader.ask("GET", key)

    def paused(self, key: str) -> bytes:
        self.admin.ask("CLIENT", "PAUSE", "20", "WRITE")
        return self.plain.ask("GET", key)


def same_everywhere(shards: RedisClusterServers) -> None:
    """Every replica has what its master has, once it has read all that the master wrote."""
    for master, replica in zip(shards.masters, shards.replicas, strict=True):
        assert master.client().execute_command("WAIT", 1, 20_000) == 1
        wait_until(
            lambda a=master, b=replica: (
                a.client().execute_command("DEBUG DIGEST") == b.client().execute_command("DEBUG DIGEST")
            ),
            20,
            "the replica's data are the master's",
        )


def test_whatever_becomes_of_the_get(shards: RedisClusterServers) -> None:
    rng = random.Random(7)
    done = 0
    with Acts(shards) as acts:
        client = acts.master.client()
        while done < ROUNDS:
            keys = [f"bertqa{TAGS['mine']}_r{done + i}" for i in range(BATCH)]
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    kind = rng.choice(("expired", "expired", "there", "soon"))
                    ttl_ms = {"expired": 1, "there": None, "soon": 4}[kind]
                    pipe.set(key, "v" * rng.choice((1, 60, 2000)), px=ttl_ms)
                pipe.execute()
            time.sleep(0.003)  # the time to live of the keys, which nothing but time ends
            for key in keys:
                act = rng.choice(acts.all)
                assert act(key), f"{act.__name__} of {key}: the connection ended\n{acts.master.tail()}"
            done += BATCH
        assert all(node.alive for node in shards.nodes)
        client.execute_command("DEBUG SET-ACTIVE-EXPIRE 1")
        same_everywhere(shards)


def test_while_keys_are_evicted(shards: RedisClusterServers) -> None:
    rng = random.Random(8)
    with Acts(shards) as acts:
        client = acts.master.client()
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
        for number in range(ROUNDS // 3):
            key = f"bertqa{TAGS['mine']}_e{rng.randrange(100)}"
            with suppress(redis.exceptions.OutOfMemoryError):
                client.set(key, "v" * 10_000, px=rng.choice((None, 1, 60_000)))
            act = rng.choice(acts.all)
            assert act(key), f"{act.__name__}, round {number}: the connection ended\n{acts.master.tail()}"
        assert client.info("stats")["evicted_keys"] > 0
        client.config_set("maxmemory", 0)
        assert all(node.alive for node in shards.nodes)
        same_everywhere(shards)
