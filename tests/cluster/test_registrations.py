"""Registrations: replaced not doubled, kept over restarts, triggered by the right events, shown."""

from __future__ import annotations

import pytest

from tests.hand_worker import SHA1, HandWorker, bulk, register_events, register_miss
from tests.servers import RedisServer


def test_registering_again_replaces(server: RedisServer) -> None:
    client = server.client()
    for _ in range(3):
        register_miss(client)
    assert len(client.execute_command("KM.REGISTRATIONS")) == 1
    client.execute_command("DEBUG", "RELOAD")
    register_miss(client)
    assert len(client.execute_command("KM.REGISTRATIONS")) == 1


@pytest.mark.parametrize("appendonly", [False, True])
def test_kept_over_shutdown_and_restart(appendonly: bool) -> None:
    with RedisServer(appendonly=appendonly) as server:
        register_miss(server.client(), "bertqa", "one", 0)
        register_miss(server.client(), "bertspan", "two", 1)
        register_events(server.client(), "sentence:", "hset,hdel", "hash")
        before = server.client().execute_command("KM.REGISTRATIONS")
        server.restart(save=not appendonly)
        client = server.client()
        assert client.execute_command("KM.REGISTRATIONS") == before
        assert client.execute_command("KM.SCRIPT", "GET", SHA1) == b"the script's source"
        if appendonly:
            client.bgrewriteaof()
            server.client().execute_command("DEBUG", "LOADAOF")
            assert client.execute_command("KM.REGISTRATIONS") == before


def test_events_by_prefix_type_and_name(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "sentence:*", "hset", "hash")
    worker = HandWorker(server)
    client.hset("sentence:1", "0", "text")
    client.hset("sentence:1", "1", "text")  # the same event, not yet taken: one job
    client.hdel("sentence:1", "0")
    client.set("sentence:2", "a string")
    client.hset("other:1", "0", "text")
    (job,) = worker.pull()
    assert (job.kind, job.event, job.key) == ("event", "hset", b"sentence:1")
    client.hset("sentence:1", "2", "text")  # while it runs: a new job, for when it has ended
    assert worker.pull(block_ms=0) == []
    worker.done(job, bulk(b""))
    assert len(worker.pull()) == 1


def test_questions_come_before_events(server: RedisServer) -> None:
    from tests.hand_worker import Asker, bulk, wait_for

    client = server.client()
    register_miss(client)
    register_events(client, "sentence:")
    worker = HandWorker(server)
    client.hset("sentence:1", "0", "text")
    asker = Asker(server, "GET", "bertqa{x}_q")
    wait_for(server, "jobs_queued", 1)
    jobs = worker.pull()
    assert [job.kind for job in jobs] == ["miss", "event"]
    worker.done(jobs[0], bulk(b"x"))
    assert asker.result() == b"x"


def test_a_full_event_queue_drops_and_counts(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "s:")
    client.config_set("keymiss.event-queue-limit", 3)
    for i in range(5):
        client.set(f"s:{i}", "x")
    stats = client.execute_command("KM.STATS")
    assert dict(zip(stats[::2], stats[1::2], strict=True))[b"events_dropped"] == 2


def test_dump(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    (row,) = client.execute_command("RG.DUMPREGISTRATIONS")
    fields = dict(zip(row[::2], row[1::2], strict=True))
    assert fields[b"id"] == b"miss-0"
    assert fields[b"reader"] == b"KeysReader"
    data = dict(zip(fields[b"RegistrationData"][::2], fields[b"RegistrationData"][1::2], strict=True))
    assert data[b"mode"] == b"async_local"
    assert data[b"numTriggered"] == 0


def test_unregister(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    with pytest.raises(Exception, match="unknown registration"):
        client.execute_command("RG.UNREGISTER", "nobody")
    client.execute_command("KM.UNREGISTER", "miss-0")
    assert client.execute_command("KM.REGISTRATIONS") == []
    assert client.execute_command("KM.SCRIPT", "LIST") == []
    assert client.get("bertqa{x}_q") is None
