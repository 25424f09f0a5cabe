"""KM.MISSES: many keys in one request, each with its own flight, and what is ready when the time is over."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.hand_worker import Asker, HandWorker, Job, bulk, register_miss, wait_for
from tests.patience import patient
from tests.servers import RedisClusterServers, RedisServer, keymiss_info


def key(number: int) -> str:
    return f"bertqa{{x}}_a:{{x}}:{number}_Who?"


def misses(server: RedisServer, *numbers: int, more: tuple[Any, ...] = ()) -> Asker:
    return Asker(server, "KM.MISSES", len(numbers), *map(key, numbers), *more)


def said(reply: Any) -> list[Any]:
    """Errors as texts."""
    return [[there, str(value) if isinstance(value, Exception) else value] for there, value in reply]


@pytest.fixture
def shard(server: RedisServer) -> RedisServer:
    with server.client() as client:
        register_miss(client, batch=10)
    return server


def answer(worker: HandWorker, jobs: list[Job]) -> None:
    for job in jobs:
        worker.done(job, bulk(b"made " + job.key[-6:-5]))


def test_those_that_are_there_and_those_that_are_made(shard: RedisServer) -> None:
    with shard.client() as client:
        client.mset({key(1): "one", key(3): ""})
    worker = HandWorker(shard)
    asker = misses(shard, 1, 2, 3, 4)
    jobs = worker.pull(max_jobs=1)
    assert [job.key for job in jobs] == [key(2).encode(), key(4).encode()]
    answer(worker, jobs[::-1])
    assert asker.result() == [[1, b"one"], [0, b"made 2"], [1, b""], [0, b"made 4"]]
    wait_for(shard, "clients_waiting", 0)


def test_all_there_is_answered_without_a_worker(shard: RedisServer) -> None:
    with shard.client() as client:
        client.mset({key(1): "one", key(2): "two"})
        assert client.execute_command("KM.MISSES", 2, key(1), key(2)) == [[1, b"one"], [1, b"two"]]
        assert client.execute_command("KM.MISSES", 1, key(1), "LIMIT", 5, "REQUEST", "me") == [[1, b"one"]]
        assert keymiss_info(client)["filter_hits"] == 3
        assert keymiss_info(client)["flights_opened"] == 0


def test_a_key_twice_is_one_job(shard: RedisServer) -> None:
    worker = HandWorker(shard)
    asker = misses(shard, 1, 2, 1)
    jobs = worker.pull()
    assert len(jobs) == 2
    answer(worker, jobs)
    assert asker.result() == [[0, b"made 1"], [0, b"made 2"], [0, b"made 1"]]


def test_requests_that_overlap_share_the_jobs(shard: RedisServer) -> None:
    worker = HandWorker(shard)
    first, second, single = misses(shard, 1, 2), misses(shard, 2, 3), Asker(shard, "GET", key(2))
    wait_for(shard, "clients_waiting", 3)
    jobs = worker.pull()
    assert sorted(job.key for job in jobs) == [key(i).encode() for i in (1, 2, 3)]
    by_key = {job.key: job for job in jobs}
    answer(worker, [by_key[key(2).encode()]])
    assert single.result() == b"made 2"
    answer(worker, [by_key[key(1).encode()]])
    assert first.result() == [[0, b"made 1"], [0, b"made 2"]]
    answer(worker, [by_key[key(3).encode()]])
    assert second.result() == [[0, b"made 2"], [0, b"made 3"]]
    with shard.client() as client:
        assert keymiss_info(client)["clients_coalesced"] == 2


def test_at_the_limit_what_is_ready_is_given(shard: RedisServer) -> None:
    worker = HandWorker(shard)
    asker = misses(shard, 1, 2, 3, more=("LIMIT", 600))
    jobs = worker.pull()
    answer(worker, jobs[:1])
    first, *rest = said(asker.result())
    assert first == [0, b"made 1"]
    assert [there for there, _ in rest] == [0, 0]
    assert all(value.startswith("TIMEOUT ") for _, value in rest)
    late = Asker(shard, "GET", key(2))  # the job goes on: it is joined
    wait_for(shard, "clients_waiting", 1)
    answer(worker, jobs[1:])
    assert late.result() == b"made 2"
    with shard.client() as client:
        info = keymiss_info(client)
    assert (info["clients_timed_out"], info["jobs_running"], info["clients_waiting"]) == (1, 0, 0)


def test_the_limit_is_no_longer_than_that_of_every_miss(shard: RedisServer) -> None:
    with shard.client() as client:
        client.config_set("keymiss.miss-timeout-ms", 400)
    HandWorker(shard)
    ((_, value),) = said(misses(shard, 1, more=("LIMIT", 3_600_000)).result(timeout_s=5))
    assert value.startswith("TIMEOUT ")


def test_what_was_not_begun_goes_with_its_client(shard: RedisServer) -> None:
    worker = HandWorker(shard)
    leaves, stays = misses(shard, 1, 2, 3), misses(shard, 3, 4)
    wait_for(shard, "clients_waiting", 2)
    with shard.client() as client:
        client.client_kill_filter(_id=leaves.id)
        wait_for(shard, "jobs_abandoned", 2)
        jobs = worker.pull()
        assert sorted(job.key for job in jobs) == [key(3).encode(), key(4).encode()]
        answer(worker, jobs)
        assert stays.result() == [[0, b"made 3"], [0, b"made 4"]]
        assert keymiss_info(client)["clients_disconnected"] == 1


def test_a_client_that_leaves_when_part_of_it_is_ready(shard: RedisServer) -> None:
    worker = HandWorker(shard)
    leaves = misses(shard, 1, 2)
    jobs = worker.pull()
    answer(worker, jobs[:1])
    with shard.client() as client:
        client.client_kill_filter(_id=leaves.id)
        wait_for(shard, "clients_waiting", 0)
        assert client.execute_command("KM.ALIVE", jobs[1].id) == 0
    answer(worker, jobs[1:])
    wait_for(shard, "jobs_running", 0)


def test_client_unblock_gives_what_is_ready(shard: RedisServer) -> None:
    worker = HandWorker(shard)
    asker = misses(shard, 1, 2)
    answer(worker, worker.pull()[:1])
    with shard.client() as client:
        assert client.client_unblock(asker.id) == 1
    ready, (_, value) = said(asker.result())
    assert ready == [0, b"made 1"]
    assert value.startswith("TIMEOUT ")
    wait_for(shard, "clients_waiting", 0)


def test_a_worker_that_dies_in_the_middle(shard: RedisServer) -> None:
    first = HandWorker(shard)
    asker = misses(shard, 1, 2, 3)
    answer(first, first.pull()[:1])
    second = HandWorker(shard)
    first.die()
    again = second.pull()
    assert sorted(job.key for job in again) == [key(2).encode(), key(3).encode()]
    assert {job.attempts for job in again} == {2}
    answer(second, again[:1])
    second.die()
    one, two, three = said(asker.result())
    assert one == [0, b"made 1"]
    assert sorted([two[1] == b"made 2", three[1] == b"made 3"]) == [False, True]
    assert "the worker died twice" in str([two, three])


def test_each_key_fails_for_itself(shard: RedisServer) -> None:
    with shard.client() as client:
        client.hset(key(1), "a", "hash")
    worker = HandWorker(shard)
    asker = Asker(shard, "KM.MISSES", 4, key(1), key(2), key(3), "nobody's{x}")
    failing, fine = worker.pull()
    worker.fail(failing, "no luck")
    answer(worker, [fine])
    wrong, failed, made, nothing = said(asker.result())
    assert wrong[1].startswith(("WRONGTYPE", "Operation against a key"))
    assert failed == [0, "FAILED no luck"]
    assert (made, nothing) == ([0, b"made 3"], [0, None])


def test_a_full_queue_refuses_what_is_over(shard: RedisServer) -> None:
    with shard.client() as client:
        client.config_set("keymiss.queue-limit", 2)
    worker = HandWorker(shard)
    asker = misses(shard, 1, 2, 3, 1)
    answer(worker, worker.pull())
    one, two, three, again = said(asker.result())
    assert (one, two, again) == ([0, b"made 1"], [0, b"made 2"], [0, b"made 1"])
    assert three[1].startswith("BUSY ")


def test_without_a_worker(shard: RedisServer) -> None:
    with shard.client() as client:
        client.set(key(1), "one")
    one, two = said(misses(shard, 1, 2).result())
    assert one == [1, b"one"]
    assert two[1].startswith("NOWORKER ")


def test_where_nobody_can_wait(shard: RedisServer) -> None:
    HandWorker(shard)
    with shard.client() as client:
        client.set(key(1), "one")
        wanted = [[1, b"one"], [0, None]]
        with client.pipeline() as pipe:
            pipe.execute_command("KM.MISSES", 2, key(1), key(2))
            assert pipe.execute() == [wanted]
        script = "return redis.call('KM.MISSES', 2, KEYS[1], KEYS[2])"
        assert client.eval(script, 2, key(1), key(2)) == wanted
        assert keymiss_info(client)["flights_opened"] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "wrong number"),
        ((1,), "wrong number"),
        ((0, "a"), "numkeys must be a whole number from 1 to 1024"),
        (("x", "a"), "numkeys must be a whole number from 1 to 1024"),
        ((1025, *map(str, range(1025))), "numkeys must be a whole number from 1 to 1024"),
        ((2, "a"), "numkeys is greater than the number of keys that follow"),
        ((1, "a", "b"), "unknown option"),
        ((1, "a", "LIMIT"), "unknown option"),
        ((1, "a", "LIMIT", 0), "LIMIT must be a whole number of milliseconds"),
        ((1, "a", "LIMIT", "soon"), "LIMIT must be a whole number of milliseconds"),
        ((1, "a", "REQUEST", "a b"), "a request's id has"),
    ],
)
def test_bad_input(shard: RedisServer, words: tuple[Any, ...], says: str) -> None:
    with shard.client() as client:
        with pytest.raises(redis.ResponseError, match=says):
            client.execute_command("KM.MISSES", *words)
        assert keymiss_info(client)["clients_waiting"] == 0


def test_as_many_keys_as_there_may_be(shard: RedisServer) -> None:
    worker = HandWorker(shard)
    asker = misses(shard, *range(1024))
    pulled = 0
    while pulled < 1024:
        jobs = worker.pull(max_jobs=3)
        assert 0 < len(jobs) <= 30  # three runs of ten
        for job in jobs:
            worker.done(job, bulk(job.key))
        pulled += len(jobs)
    assert asker.result() == [[0, key(number).encode()] for number in range(1024)]


def test_a_pull_counts_runs_and_not_jobs(shard: RedisServer) -> None:
    with shard.client() as client:
        register_miss(client, prefix="one", id_="one", ordinal=1)
    worker = HandWorker(shard)
    singles = [Asker(shard, "GET", f"one{number}") for number in range(2)]
    wait_for(shard, "jobs_queued", 2)
    asker = misses(shard, *range(12))
    wait_for(shard, "jobs_queued", 14)
    pulled = worker.pull(max_jobs=3)  # two of their own, and ten together
    assert [job.batch for job in pulled] == [1, 1, *[10] * 10]
    rest = worker.pull(max_jobs=1)
    assert len(rest) == 2
    for job in [*pulled, *rest]:
        worker.done(job, bulk(b"x"))
    assert [single.result() for single in singles] == [b"x", b"x"]
    assert asker.result() == [[0, b"x"]] * 12


def test_keys_of_two_slots_and_of_another_shard() -> None:
    with RedisClusterServers(masters=2) as cluster:
        first, second = cluster.masters
        with first.client() as one, second.client() as other:
            assert one.execute_command("KM.MISSES", 2, "a{1bz}", "b{1bz}") == [[0, None]] * 2
            assert one.execute_command("KM.MISSES", 2, "a{1bz}", "a{06S}") == [[0, None]] * 2
            for client, mine, others in ((one, "a{1bz}", "a{fjl}"), (other, "a{fjl}", "a{1bz}")):
                found = client.execute_command("KM.MISSES", 3, mine, others, mine)
                assert [found[0], found[2]] == [[0, None]] * 2
                assert found[1][0] == 0
                assert isinstance(found[1][1], redis.exceptions.TryAgainError)


def test_on_a_replica_nothing_is_asked() -> None:
    with RedisClusterServers(masters=1, replicas=1) as cluster:
        (master,), (replica,) = cluster.masters, cluster.replicas
        with master.client() as client, replica.client(socket_timeout=patient(10)) as other:
            register_miss(client)
            client.set(key(1), "one")
            assert client.execute_command("WAIT", 1, int(patient(5) * 1000)) == 1
            other.execute_command("READONLY")
            assert other.execute_command("KM.MISSES", 2, key(1), key(2)) == [[1, b"one"], [0, None]]
