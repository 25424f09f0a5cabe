"""Every way a wait can end without an answer: time, disconnects, no worker, a dead worker, a full queue."""

from __future__ import annotations

import pytest

from tests.hand_worker import Asker, HandWorker, bulk, register_miss, wait_for
from tests.servers import RedisServer, keymiss_info

KEY = "bertqa{x}_a:{x}:0_Who?"


def test_time_limit(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    client.config_set("keymiss.miss-timeout-ms", 700)
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    assert str(asker.result()).startswith("TIMEOUT ")
    info = keymiss_info(client)
    assert (info["clients_timed_out"], info["clients_waiting"], info["jobs_running"]) == (1, 0, 1)
    assert client.execute_command("KM.ALIVE", job.id) == 0
    assert worker.done(job, bulk(b"late")) == 1  # nobody's any more, but the job ends
    assert worker.done(job, bulk(b"later")) == 0


def test_client_unblock(server: RedisServer) -> None:
    register_miss(server.client())
    HandWorker(server)
    asker = Asker(server, "GET", KEY)
    wait_for(server, "clients_waiting", 1)
    assert server.client().client_unblock(asker.id) == 1
    assert str(asker.result()).startswith("TIMEOUT ")


def test_a_client_that_leaves_before_its_job_is_taken_takes_the_job_along(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    stays, leaves = Asker(server, "GET", KEY), Asker(server, "GET", KEY)
    wait_for(server, "clients_waiting", 2)
    client.client_kill_filter(_id=leaves.id)
    wait_for(server, "clients_waiting", 1)
    client.client_kill_filter(_id=stays.id)
    wait_for(server, "jobs_abandoned", 1)
    assert worker.pull(block_ms=0) == []


def test_a_client_that_leaves_while_its_job_runs(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    client.client_kill_filter(_id=asker.id)
    wait_for(server, "clients_waiting", 0)
    assert client.execute_command("KM.ALIVE", job.id) == 0
    again = Asker(server, "GET", KEY)  # joins the job that still runs
    wait_for(server, "clients_waiting", 1)
    assert worker.done(job, bulk(b"shared")) == 1
    assert again.result() == b"shared"


def test_no_worker(server: RedisServer) -> None:
    register_miss(server.client())
    assert str(Asker(server, "GET", KEY).result()).startswith("NOWORKER ")
    assert str(Asker(server, "RG.PYEXECUTE", "GB().run()").result()).startswith("NOWORKER ")


def test_a_worker_that_dies_gives_its_job_back_once(server: RedisServer) -> None:
    register_miss(server.client())
    first = HandWorker(server)  # before the question: its first pull would take the job
    asker = Asker(server, "GET", KEY)
    assert len(first.pull()) == 1
    second = HandWorker(server)
    first.die()
    (again,) = second.pull()
    assert again.key == KEY.encode()
    assert again.attempts == 2
    third = HandWorker(server)
    second.die()
    assert "the worker died twice" in str(asker.result())
    assert third.pull(block_ms=0) == []
    assert keymiss_info(server.client())["jobs_lost"] == 1


def test_jobs_given_back_are_not_counted_as_tried(server: RedisServer) -> None:
    register_miss(server.client())
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    assert worker.client.execute_command("KM.GIVEBACK", job.id, 12345) == 1
    (again,) = worker.pull()
    assert (again.id, again.attempts) == (job.id, 1)
    worker.done(again, bulk(b"x"))
    assert asker.result() == b"x"


def test_a_full_queue_refuses_at_once_and_still_joins(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    client.config_set("keymiss.queue-limit", 2)
    askers = [Asker(server, "GET", f"{KEY}{i}") for i in range(2)]
    wait_for(server, "jobs_queued", 2)
    with pytest.raises(Exception, match=r"^BUSY "):
        client.get(f"{KEY}2")
    askers.append(Asker(server, "GET", f"{KEY}0"))
    wait_for(server, "clients_waiting", 3)
    for job in worker.pull():
        worker.done(job, bulk(b"x"))
    assert [a.result() for a in askers] == [b"x"] * 3
    assert keymiss_info(client)["refused_busy"] == 1


def test_a_puller_that_is_killed_takes_no_job_along(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    puller = Asker(server, "KM.PULL", "waits", 1, 5000)
    wait_for(server, "workers", 1)
    client.client_kill_filter(_id=puller.id)
    wait_for(server, "workers", 0)
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEY)
    (job,) = worker.pull()
    worker.done(job, bulk(b"x"))
    assert asker.result() == b"x"
