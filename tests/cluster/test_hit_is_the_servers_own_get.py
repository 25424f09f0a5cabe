"""A key that is asked for again is answered by the server's own GET; a change of it is seen at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.hand_worker import Asker, HandWorker, bulk, register_miss
from tests.servers import RedisServer, keymiss_info

KEY, OTHER = "bertqa{x}_a:{x}:0_Who?", "bertqa{x}_a:{x}:1_Who?"


def calls(client: redis.Redis, command: str) -> int:
    """How often the server ran the command."""
    return client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


def test_the_second_get_is_left_alone(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    client.set(KEY, "v")
    assert client.get(KEY) == b"v"
    before = calls(client, "km.miss")
    reads, hits = calls(client, "get"), keymiss_info(client)["filter_hits"]
    with client.pipeline(transaction=False) as pipe:
        for _ in range(50):
            pipe.get(KEY)
        assert pipe.execute() == [b"v"] * 50
    assert calls(client, "km.miss") - before < 25  # now and then it must look again
    assert calls(client, "get") - reads > 25
    assert keymiss_info(client)["filter_hits"] == hits + 50
    stats = client.info("stats")
    assert (stats["keyspace_hits"], stats["keyspace_misses"]) == (51, 0)


CHANGES: dict[str, Callable[[redis.Redis], object]] = {
    "deleted": lambda c: c.delete(KEY),
    "unlinked": lambda c: c.unlink(KEY),
    "expired": lambda c: c.pexpireat(KEY, 1),
    "renamed": lambda c: c.rename(KEY, "elsewhere{x}"),
    "read and deleted": lambda c: c.getdel(KEY),
    "flushed": lambda c: c.flushdb(),
    "all flushed": lambda c: c.flushall(asynchronous=True),
    "swapped": lambda c: c.swapdb(0, 1),
    "moved": lambda c: c.move(KEY, 1),
    "deleted by a script": lambda c: c.eval("return redis.call('DEL', KEYS[1])", 1, KEY),
    "loaded without it": lambda c: c.execute_command("DEBUG", "RELOAD", "NOSAVE"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_key_that_went_is_asked_for(server: RedisServer, change: str) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    client.set(OTHER, "o")
    client.execute_command("SAVE")
    client.set(KEY, "v")
    assert [client.get(KEY), client.get(KEY)] == [b"v", b"v"]
    CHANGES[change](client)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    worker.done(job, bulk(b"asked"))
    assert asker.result() == b"asked"


def test_a_key_that_changed_gives_its_new_value(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    client.set(KEY, "v")
    assert [client.get(KEY), client.get(KEY)] == [b"v", b"v"]
    client.set(KEY, 7)
    assert [client.get(KEY), client.get(KEY)] == [b"7", b"7"]
    client.delete(KEY)
    client.rpush(KEY, "a")
    for _ in range(2):
        with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
            client.get(KEY)


def test_a_short_time_to_live_is_kept(server: RedisServer) -> None:
    """A key that expires while it is remembered as there would be a null; it must be asked for."""
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)  # so that nothing tells us of its end
    client.set(KEY, "v", px=300)
    asker = Asker(server, "GET", KEY)
    while not (jobs := worker.pull(block_ms=20)):
        if asker.answered:
            assert asker.result() == b"v"
            asker = Asker(server, "GET", KEY)
    worker.done(jobs[0], bulk(b"asked"))
    assert asker.result() == b"asked"


def test_who_may_only_read_the_key_gets_it(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    client.set(KEY, "v")
    client.execute_command("ACL SETUSER reader on >secret -@all +get +km.miss %R~bertqa*")
    reader = server.client(username="reader", password="secret")
    assert [reader.get(KEY), reader.get(KEY)] == [b"v", b"v"]
