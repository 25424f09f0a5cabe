"""KM.MISS key REQUEST id: the ids of who waits reach the worker that pulls the job."""

from __future__ import annotations

import pytest
import redis

from keymiss import keys
from tests.hand_worker import Asker, HandWorker, bulk, register_events, register_miss, wait_for
from tests.servers import RedisClusterServers, RedisServer, keymiss_info, wait_until

KEY = "bertqa{x}_a:{x}:0_Who?"
LONGEST = "aZ09._-" + "x" * 57


def miss(server: RedisServer, id_: str, key: str = KEY) -> Asker:
    return Asker(server, "KM.MISS", key, "REQUEST", id_)


@pytest.mark.parametrize("id_", ["1", "0a1b2c3d4e5f60718293a4b5c6d7e8f9", LONGEST])
def test_an_id_reaches_the_puller(server: RedisServer, id_: str) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    asker = Asker(server, "km.miss", KEY, "request", id_)
    (job,) = worker.pull()
    assert (job.kind, job.key, job.request_ids) == ("miss", KEY.encode(), [id_])
    worker.done(job, bulk(b"him"))
    assert asker.result() == b"him"


def test_two_clients_that_wait_for_one_key_give_both_ids(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    askers = [miss(server, "first"), miss(server, "second"), miss(server, "first")]
    askers += [Asker(server, "KM.MISS", KEY), Asker(server, "GET", KEY)]  # these have none
    wait_for(server, "clients_waiting", 5)
    (job,) = worker.pull()
    assert sorted(job.request_ids) == ["first", "second"]
    worker.done(job, bulk(b"x"))
    assert [asker.result() for asker in askers] == [b"x"] * 5


def test_at_most_16_ids(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    askers = [miss(server, "last-but-19")]
    wait_for(server, "clients_waiting", 1)
    askers += [miss(server, f"id-{i}") for i in range(19)]
    wait_for(server, "clients_waiting", 20)
    (job,) = worker.pull()
    assert len(job.request_ids) == len(set(job.request_ids)) == 16
    assert set(job.request_ids) < {f"id-{i}" for i in range(19)}  # the newest
    worker.done(job, bulk(b"x"))
    assert [asker.result() for asker in askers] == [b"x"] * 20


@pytest.mark.parametrize(
    "id_", ["", "a b", "a\nb", 'a"b', "a\0b", "ab\0", "f\u00fcnf", "a/b", LONGEST + "x", "x" * 100_000]
)
def test_a_bad_id_is_refused_and_nothing_changes(server: RedisServer, id_: str) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    before = keymiss_info(client)
    for key in (KEY, "no-function"):
        with pytest.raises(redis.ResponseError, match=r"^a request's id has 1 to 64 characters of A-Z"):
            client.execute_command("KM.MISS", key, "REQUEST", id_)
    assert keymiss_info(client) == before
    assert worker.pull(block_ms=0) == []


def test_bad_arguments(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    for arguments in ([KEY, "REQUEST"], [KEY, "REQUEST", "a", "b"], [KEY, "REQUEST", "a", "REQUEST", "b"]):
        with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
            client.execute_command("KM.MISS", *arguments)
    with pytest.raises(redis.ResponseError, match=r"syntax is KM\.MISS key \[REQUEST id\]"):
        client.execute_command("KM.MISS", KEY, "REQUIRE", "a")
    assert keymiss_info(client)["filter_misses"] == 0


def test_a_client_that_joins_after_the_pull_adds_no_id(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    first = miss(server, "first")
    (job,) = worker.pull()
    assert job.request_ids == ["first"]
    second = miss(server, "second")
    wait_for(server, "clients_waiting", 2)
    worker.done(job, bulk(b"x"))
    assert [first.result(), second.result()] == [b"x", b"x"]


def test_a_job_given_back_brings_the_ids_of_who_waits_then(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    first = miss(server, "first")
    (job,) = worker.pull()
    second, third = miss(server, "second"), miss(server, "third")
    wait_for(server, "clients_waiting", 3)
    client.client_kill_filter(_id=first.id)
    wait_for(server, "clients_waiting", 2)
    wait_until(lambda: client.execute_command("KM.ALIVE", job.id) == 1, 5)
    worker.client.execute_command("KM.GIVEBACK", job.id)
    (again,) = worker.pull()
    assert (again.id, sorted(again.request_ids)) == (job.id, ["second", "third"])
    assert again.queued_ms >= job.queued_ms  # counted from when the job was made
    worker.done(again, bulk(b"x"))
    assert [second.result(), third.result()] == [b"x", b"x"]


@pytest.mark.parametrize("end", ["time", "unblock", "fail", "no worker"])
def test_every_other_end_of_a_client_with_an_id(server: RedisServer, end: str) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    client.config_set("keymiss.miss-timeout-ms", 150 if end == "time" else 30000)
    asker = miss(server, "a-client")
    (job,) = worker.pull()
    if end == "unblock":
        client.client_unblock(asker.id)
    elif end == "fail":
        worker.fail(job, "no luck")
    elif end == "no worker":
        worker.client.execute_command("KM.GIVEBACK", job.id)
        worker.die()
    starts = {"time": "TIMEOUT", "unblock": "TIMEOUT", "fail": "FAILED no luck", "no worker": "NOWORKER"}
    assert str(asker.result()).startswith(starts[end])
    assert keymiss_info(client)["clients_waiting"] == 0


def test_queued_ms_and_other_kinds(server: RedisServer) -> None:
    """How long the job was in the shard; an event has no ids."""
    client = server.client()
    register_events(client, "e:", "set")
    worker = HandWorker(server)
    client.set("e:1", "x")
    (event,) = worker.pull()
    worker.client.execute_command("KM.GIVEBACK", event.id)

    def older() -> bool:
        (again,) = worker.pull()
        worker.client.execute_command("KM.GIVEBACK", again.id)
        assert again.request_ids == []
        return again.queued_ms >= event.queued_ms + 50

    wait_until(older, 5, "the job has waited 50 ms")


def test_a_hit_through_km_miss_counts(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    HandWorker(server)
    client.mset({KEY: "known", "unwatched": "v"})
    assert client.execute_command("KM.MISS", KEY, "REQUEST", "a") == b"known"
    assert client.execute_command("KM.MISS", KEY) == b"known"
    assert client.execute_command("KM.MISS", "unwatched", "REQUEST", "a") == b"v"
    with server.client(db=1) as other:  # functions see database 0 only
        other.set(KEY, "v")
        assert other.execute_command("KM.MISS", KEY, "REQUEST", "a") == b"v"
    info = keymiss_info(client)
    assert (info["filter_hits"], info["filter_misses"]) == (2, 0)
    assert client.get(KEY) == b"known"
    assert keymiss_info(client)["filter_hits"] == 3


def test_where_nobody_can_wait(server: RedisServer) -> None:
    """In MULTI and in a script as without an id: what a plain GET would reply."""
    client = server.client()
    register_miss(client)
    HandWorker(server)
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("KM.MISS", KEY, "REQUEST", "a")
        pipe.set(KEY, "v")
        pipe.execute_command("KM.MISS", KEY, "REQUEST", "a")
        assert pipe.execute() == [None, True, b"v"]
    script = "return redis.call('KM.MISS', KEYS[1], 'REQUEST', 'a')"
    assert client.eval(script, 1, KEY) == b"v"
    client.delete(KEY)
    assert client.eval(script, 1, KEY) is None
    client.execute_command("HSET", KEY, "f", "v")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.execute_command("KM.MISS", KEY, "REQUEST", "a")
    assert keymiss_info(client)["flights_opened"] == 0


def test_who_may_ask_may_name_a_request(server: RedisServer) -> None:
    """The rights are those of KM.MISS without an id: one key, at position 1."""
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    client.execute_command(
        "ACL", "SETUSER", "asking", "on", ">secret", "resetkeys", "~bertqa*", "-@all", "+get", "+km.miss"
    )
    assert client.command_getkeys("KM.MISS", KEY, "REQUEST", "b") == [KEY]
    with server.client(username="asking", password="secret") as asking:
        with pytest.raises(redis.exceptions.NoPermissionError):
            asking.execute_command("KM.MISS", "other", "REQUEST", "bertqa")
        client.set(KEY, "v")
        assert asking.execute_command("KM.MISS", KEY, "REQUEST", "a") == b"v"
    assert worker.pull(block_ms=0) == []


def test_another_shards_key_is_moved(cluster: RedisClusterServers) -> None:
    tags = [keys.tag_for_slot(0), keys.tag_for_slot(keys.SLOTS - 1)]
    server, other = (cluster.server_of(f"{{{tag}}}") for tag in tags)
    with server.client() as client, pytest.raises(redis.exceptions.MovedError) as error:
        client.execute_command("KM.MISS", f"bertqa{{{tags[1]}}}_a", "REQUEST", "a")
    assert error.value.port == other.port
