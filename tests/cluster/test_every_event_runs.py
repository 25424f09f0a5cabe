"""Each event of a registration runs its function, in the order of the writes; unless it asks to coalesce."""

from __future__ import annotations

import pytest
import redis

from tests.hand_worker import HandWorker, bulk, register_events, wait_for
from tests.servers import RedisServer, WorkerProcess, keymiss_info, wait_until


def work_off(worker: HandWorker) -> list[tuple[bytes, str]]:
    """Takes one event after the other until there is none."""
    seen = []
    while jobs := worker.pull(block_ms=0):
        (job,) = jobs
        seen.append((job.key, job.event))
        worker.done(job, bulk(b""))
    return seen


def test_one_runs_at_a_time_in_the_order_of_the_writes(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", coalesce=False)
    worker = HandWorker(server)
    for number in range(20):
        client.set("doc:1", number)
        client.hset(f"doc:{2 + number % 3}", "n", number)
    client.delete("doc:1")
    info = keymiss_info(client)
    assert (info["events_queued"], info["events_coalesced"], info["events_running"]) == (41, 0, 0)
    seen = work_off(worker)
    assert seen[:4] == [(b"doc:1", "set"), (b"doc:2", "hset"), (b"doc:1", "set"), (b"doc:3", "hset")]
    assert (len(seen), seen[-1]) == (41, (b"doc:1", "del"))
    (dump,) = client.execute_command("RG.DUMPREGISTRATIONS")
    assert dump[7][3] == dump[7][5] == 41  # triggered, done
    info = keymiss_info(client)
    assert (info["events_queued"], info["events_running"], info["jobs_running"]) == (0, 0, 0)


def test_one_that_asks_for_it_does_not_hold_up_the_other(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "set", ordinal=1, coalesce=False)
    register_events(client, "doc:", "set", ordinal=2, coalesce=True)
    worker = HandWorker(server)
    for number in range(3):
        client.set("doc:1", number)
        client.set("doc:2", number)
    taken = [(job.registration, job.key) for job in worker.pull()]
    assert sorted(taken) == [("events-1", b"doc:1"), ("events-2", b"doc:1"), ("events-2", b"doc:2")]
    assert keymiss_info(client)["events_queued"] == 5


def test_the_order_outlives_a_worker(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "set", coalesce=False)
    first = HandWorker(server)
    for number in range(6):
        client.set(f"doc:{number}", "x")
    (job,) = first.pull()
    assert job.key == b"doc:0"
    assert first.pull(block_ms=0) == []  # the others wait behind it
    first.die()
    wait_for(server, "workers", 0)
    assert keymiss_info(client)["events_queued"] == 6
    client.set("doc:6", "x")
    second = HandWorker(server)  # takes the first when it attaches, and dies with it
    second.die()
    wait_for(server, "workers", 0)
    assert keymiss_info(client)["events_queued"] == 7
    third = HandWorker(server, attach=False)
    assert [key for key, _ in work_off(third)] == [b"doc:%d" % number for number in range(7)]


def test_what_is_notified_waits_once(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "set,catchup", coalesce=False)
    worker = HandWorker(server)
    for _ in range(3):
        assert client.execute_command("KM.NOTIFY", "catchup", "doc:1") == 1
    assert work_off(worker) == [(b"doc:1", "catchup")]


def test_the_full_queue_drops_and_counts(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "doc:", "set", coalesce=False)
    client.config_set("keymiss.event-queue-limit", 5)
    for number in range(8):
        client.set("doc:1", number)
    info = keymiss_info(client)
    assert (info["events_queued"], info["events_dropped"]) == (5, 3)


def test_it_is_saved_with_the_registration(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "a:", ordinal=1, coalesce=False)
    register_events(client, "b:", ordinal=2, coalesce=True)
    before = client.execute_command("KM.REGISTRATIONS")
    assert [row[11] for row in before] == [1, 0]
    client.execute_command("DEBUG", "RELOAD")
    assert client.execute_command("KM.REGISTRATIONS") == before


@pytest.mark.parametrize("value", ["2", "-1", "yes", ""])
def test_the_module_refuses_what_is_no_truth(server: RedisServer, value: str) -> None:
    client = server.client()
    client.execute_command("KM.SCRIPT", "SET", "a" * 40, "source")
    with pytest.raises(redis.ResponseError, match="coalesce must be 0 or 1"):
        client.execute_command("KM.REGISTER", "x-0", "a" * 40, 0, "r", "", "async", "p", "", "", "", 1, value)


AUDIT = """
def note(record):
    execute('RPUSH', 'audit', record['event'] + ' ' + record['key'])

GB().foreach(note).register('account:', eventTypes=['set', 'del'], mode='async_local')
"""


def test_an_audit_log_is_whole_and_in_order(server: RedisServer, worker: WorkerProcess) -> None:
    client = server.client(decode_responses=True)
    assert client.execute_command("RG.PYEXECUTE", AUDIT) == "OK"
    expected = []
    for number in range(60):
        client.set(f"account:{number % 2}", number)
        expected.append(f"set account:{number % 2}")
    client.delete("account:0")
    expected.append("del account:0")
    wait_until(lambda: client.llen("audit") >= len(expected), 30, "the log is written")
    assert client.lrange("audit", 0, -1) == expected


def test_a_counter_counts_each_write(server: RedisServer, worker: WorkerProcess) -> None:
    client = server.client(decode_responses=True)
    script = "GB().foreach(lambda r: execute('INCR', 'writes')).register('hit', eventTypes=['set'])"
    assert client.execute_command("RG.PYEXECUTE", script) == "OK"
    for number in range(100):
        client.set("hit", number)
    wait_until(lambda: client.get("writes") == "100", 30, "every write is counted")
    wait_for(server, "events_running", 0)
    assert client.get("writes") == "100"
