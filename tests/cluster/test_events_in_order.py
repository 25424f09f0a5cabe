"""Events of one registration and one key run one after the other; KM.NOTIFY queues what no write did."""

from __future__ import annotations

import pytest
import redis

from tests.hand_worker import HandWorker, bulk, register_events, wait_for
from tests.servers import RedisClusterServers, RedisServer, keymiss_info

MANY_DEATHS = 8  # MAX_EVENT_ATTEMPTS in module/jobs.c


def test_a_second_event_of_a_key_waits_until_the_first_has_ended(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "hset,hdel,del")
    worker = HandWorker(server)
    client.hset("doc:1", "a", "1")
    (first,) = worker.pull()
    client.hset("doc:1", "a", "2")
    client.hset("doc:1", "a", "3")  # the same event of the same key waits already
    client.hdel("doc:1", "b")  # nothing was deleted: no event
    client.delete("doc:1")
    client.hset("doc:2", "a", "1")
    (other,) = worker.pull()
    assert other.key == b"doc:2"
    assert worker.pull(block_ms=0) == []
    info = keymiss_info(client)
    assert (info["events_queued"], info["events_running"], info["events_coalesced"]) == (2, 2, 1)
    assert worker.done(first, bulk(b"")) == 1
    (second,) = worker.pull()
    assert (second.key, second.event) == (b"doc:1", "hset")
    assert worker.pull(block_ms=0) == []
    assert worker.fail(second, "no") == 1  # a failure ends it as well
    (third,) = worker.pull()
    assert (third.key, third.event) == (b"doc:1", "del")
    worker.done(third, bulk(b""))
    worker.done(other, bulk(b""))
    info = keymiss_info(client)
    assert (info["events_queued"], info["events_running"], info["jobs_running"]) == (0, 0, 0)


def test_two_registrations_of_one_key_do_not_wait_for_each_other(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "hset", ordinal=1)
    register_events(client, "doc", "hset", ordinal=2)
    worker = HandWorker(server)
    client.hset("doc:1", "a", "1")
    assert {job.registration for job in worker.pull()} == {"events-1", "events-2"}


def test_what_waits_behind_an_event_keeps_its_order_when_the_worker_dies(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "hset,del")
    first = HandWorker(server)
    client.hset("doc:1", "a", "1")
    assert [job.event for job in first.pull()] == ["hset"]
    client.delete("doc:1")
    client.hset("doc:9", "a", "1")
    assert [job.key for job in first.pull()] == [b"doc:9"]  # parks the del
    first.die()
    wait_for(server, "workers", 0)
    assert keymiss_info(client)["events_queued"] == 3
    second = HandWorker(server)
    wait_for(server, "events_running", 2)  # its first pull took what may run: the hset of 1 and that of 9
    assert keymiss_info(client)["events_queued"] == 1
    second.die()
    wait_for(server, "workers", 0)
    assert keymiss_info(client)["jobs_lost"] == 0


def test_an_event_is_tried_again_more_often_than_a_question(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "hset")
    client.hset("doc:1", "a", "1")
    for attempt in range(1, MANY_DEATHS + 1):
        assert keymiss_info(client)["events_queued"] == 1, attempt
        worker = HandWorker(server)  # takes it
        wait_for(server, "events_running", 1)
        worker.die()
        wait_for(server, "workers", 0)
    info = keymiss_info(client)
    assert (info["events_queued"], info["events_running"], info["jobs_lost"]) == (0, 0, 1)
    (dump,) = client.execute_command("RG.DUMPREGISTRATIONS")
    data = dump[7]
    assert data[data.index(b"lastError") + 1] == b"the worker died each time it ran this"


def test_notify_is_an_event_of_the_keys(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "catchup", "hash")
    client.rpush("doc:list", "a")
    client.hset("doc:1", "a", "1")
    worker = HandWorker(server)
    assert client.execute_command("KM.NOTIFY", "catchup", "doc:1", "doc:gone", "doc:list", "other") == 2
    assert client.execute_command("KM.NOTIFY", "unknown", "doc:1") == 0
    jobs = worker.pull()
    assert {(job.key, job.event) for job in jobs} == {(b"doc:gone", "catchup"), (b"doc:1", "catchup")}


def test_notify_says_when_the_queue_is_full(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "catchup")
    client.config_set("keymiss.event-queue-limit", 2)
    keys = [f"doc:{i}" for i in range(5)]
    assert client.execute_command("KM.NOTIFY", "catchup", *keys) == 2
    assert client.execute_command("KM.NOTIFY", "catchup", *keys[:2]) == 2  # they wait already
    assert keymiss_info(client)["events_dropped"] == 3


@pytest.mark.parametrize("arguments", [(), ("catchup",), ("", "k"), ("x" * 65, "k"), ("a\0b", "k")])
def test_notify_refuses_what_it_cannot_use(server: RedisServer, arguments: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError):
        server.client().execute_command("KM.NOTIFY", *arguments)


def test_notify_on_a_replica_is_refused(cluster: RedisClusterServers) -> None:
    with cluster.replicas[0].client() as client, pytest.raises(redis.ResponseError, match="master"):
        client.execute_command("KM.NOTIFY", "catchup", "k")
