"""A GET that misses becomes a job; every client of the key gets the worker's answer."""

from __future__ import annotations

import pytest

from tests.hand_worker import Asker, HandWorker, bulk, register_miss, wait_for
from tests.servers import RedisServer, keymiss_info

KEY = "bertqa{x}_a:{x}:0_Who?"


def test_answer_reaches_the_client_as_get_would_give_it(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    assert (job.kind, job.event, job.key, job.attempts) == ("miss", "keymiss", KEY.encode(), 1)
    assert job.cache
    assert 0 < job.remaining_ms <= 30000
    assert worker.done(job, bulk(b"adults")) == 1
    assert asker.result() == b"adults"


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        (b"$-1\r\n", None),
        (b":7\r\n", 7),
        (b"+fine\r\n", b"fine"),
        (b"*2\r\n:1\r\n$1\r\nx\r\n", [1, b"x"]),
        (bulk(bytes(range(256))), bytes(range(256))),
    ],
)
def test_every_kind_of_answer(server: RedisServer, raw: bytes, reply: object) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    worker.done(job, raw)
    assert asker.result() == reply


def test_fifty_clients_of_one_key_are_one_job(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    askers = [Asker(server, "GET", KEY) for _ in range(50)]
    wait_for(server, "clients_waiting", 50)
    (job,) = worker.pull()
    worker.done(job, bulk(b"one"))
    assert {a.result() for a in askers} == {b"one"}
    info = keymiss_info(server.client())
    assert (info["flights_opened"], info["clients_coalesced"], info["clients_waiting"]) == (1, 49, 0)


def test_jobs_that_pile_up_come_together(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    askers = [Asker(server, "GET", f"{KEY}{i}") for i in range(20)]
    wait_for(server, "jobs_queued", 20)
    jobs = worker.pull(max_jobs=16)
    assert len(jobs) == 16
    for job in jobs + worker.pull():
        worker.done(job, bulk(job.key))
    assert [a.result() for a in askers] == [f"{KEY}{i}".encode() for i in range(20)]


def test_failure_is_an_error_at_once_and_on_one_line(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    worker.fail(job, "ValueError: no such\r\nsentence")
    assert str(asker.result()) == "FAILED ValueError: no such  sentence"
    assert worker.fail(job, "again") == 0


def test_a_hit_breaks_no_watch(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    client.set(KEY, "cached")
    with client.pipeline() as pipe:
        pipe.watch(KEY)
        assert server.client().get(KEY) == b"cached"
        pipe.multi()
        pipe.set("other", 1)
        assert pipe.execute() == [True]


def test_an_expired_answer_is_asked_again(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    client.set(KEY, "old", px=1)
    worker = HandWorker(server)
    wait_for(server, "workers", 1)
    client.execute_command("DEBUG", "SLEEP", "0.01")
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    worker.done(job, bulk(b"new"))
    assert asker.result() == b"new"


def test_the_longest_prefix_wins_then_the_newest(server: RedisServer) -> None:
    client = server.client()
    register_miss(client, "bert", "short", 0)
    register_miss(client, "bertqa*", "long", 1)
    register_miss(client, "bertqa", "newer", 2)
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    assert job.registration == "newer"
    worker.done(job, bulk(b"x"))
    assert asker.result() == b"x"


def test_other_commands_keys_and_types_are_left_alone(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    HandWorker(server)
    assert client.get("other") is None
    assert client.strlen(KEY) == 0
    client.hset(KEY, "f", "v")
    with pytest.raises(Exception, match="WRONGTYPE"):
        client.get(KEY)
    with pytest.raises(Exception, match="wrong number of arguments"):
        client.execute_command("GET")
    client.select(1)
    assert client.get(KEY + "!") is None


def test_questions_may_hold_any_bytes(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    for key in (b"bertqa{x}_\xff\xfe\x00_q", b"bertqa{x}_" + b"q" * (1 << 20)):
        asker = Asker(server, "GET", key)
        (job,) = worker.pull()
        assert job.key == key
        worker.done(job, bulk(b"ok"))
        assert asker.result() == b"ok"
