"""The job threads: as many at once as allowed, more while some wait for other jobs."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from keymiss.addresses import Address
from keymiss.cluster.topology import Shard
from keymiss.worker.job import Job, JobCounts, JobKind, JobStatus, Run, parse_job, runs_of
from keymiss.worker.jobs.threads import JobPool
from tests.patience import patient
from tests.servers import wait_until

SHARD = Shard(Address("127.0.0.1", 1), "id")


def job(number: int = 1) -> Job:
    row = [number, b"miss", b"sha-0", b"keymiss", b"key", 1, 30000, 1, [], 7, [b"a", b"b-c"], 60, 1, 8]
    return parse_job(SHARD, row)


def test_runs_only_as_many_as_allowed() -> None:
    release, started = threading.Event(), threading.Semaphore(0)

    def handle(_run: Run) -> None:
        started.release()
        assert release.wait(patient(10))

    pool = JobPool(2, handle, lambda _: None)
    pool.submit([(job(number),) for number in range(5)])
    assert started.acquire(timeout=patient(10))
    assert started.acquire(timeout=patient(10))
    assert len(pool.running()) == 2
    assert pool.free() == 0
    assert pool.wait_free(0.01) == 0
    release.set()
    assert pool.wait_idle(10)
    assert pool.free() == 2


def test_jobs_that_wait_for_jobs_do_not_fill_the_pool() -> None:
    inner_done = threading.Event()
    pool: JobPool

    def handle(running: Run) -> None:
        if running[0].id == 1:
            with pool.waiting():
                pool.submit([(job(2),)])
                assert inner_done.wait(patient(10))
        else:
            inner_done.set()

    pool = JobPool(1, handle, lambda _: None)
    pool.submit([(job(1),)])
    assert pool.wait_idle(10)
    assert inner_done.is_set()


def test_the_thread_that_worked_last_works_next() -> None:
    threads: list[str] = []
    together = threading.Barrier(3)

    def handle(running: Run) -> None:
        threads.append(threading.current_thread().name)
        if running[0].id < 3:
            together.wait(patient(10))

    pool = JobPool(3, handle, lambda _: None)
    pool.submit([(job(number),) for number in range(3)])
    wait_until(lambda: len(pool._idle) == 3, 10, "all are idle")
    for number in range(3, 10):
        pool.submit([(job(number),)])
        assert pool.wait_idle(patient(10))
        wait_until(lambda: len(pool._idle) == 3, 10, "the thread is idle again")
    assert len(set(threads[:3])) == 3
    assert len(set(threads[3:])) == 1


def test_every_run_begins_whoever_submits_it() -> None:
    done = Counter[int]()
    counting = threading.Lock()

    def handle(running: Run) -> None:
        with counting:
            done[running[0].id] += 1

    pool = JobPool(3, handle, lambda _: None)

    def submit(first: int) -> None:
        for number in range(first, first + 500):
            pool.submit([(job(number),)])
            if number % 7 == 0:
                pool.wait_idle(patient(10))

    submitters = [threading.Thread(target=submit, args=(1000 * at,)) for at in range(4)]
    for one in submitters:
        one.start()
    for one in submitters:
        one.join(patient(30))
    assert pool.wait_idle(patient(10))
    assert len(done) == 2000
    assert set(done.values()) == {1}


def test_queued_jobs_can_be_taken_back() -> None:
    release, started = threading.Event(), threading.Event()

    def handle(_run: Run) -> None:
        started.set()
        assert release.wait(patient(10))

    pool = JobPool(1, handle, lambda _: None)
    pool.submit([(job(1),), (job(2),), (job(3),)])
    assert started.wait(patient(10))
    assert [taken.id for taken in pool.take_queued(lambda queued: queued.id == 3)] == [3]
    assert [taken.id for taken in pool.take_queued(lambda _: True)] == [2]
    release.set()
    assert pool.wait_idle(10)


def test_a_dead_thread_is_told() -> None:
    told: list[str] = []
    heard = threading.Event()

    def handle(_run: Run) -> None:
        raise ValueError("bug")

    def on_dead(text: str) -> None:
        told.append(text)
        heard.set()

    JobPool(1, handle, on_dead).submit([(job(),)])
    assert heard.wait(patient(10))
    assert told == ["job thread: ValueError: bug"]


@pytest.mark.parametrize(
    "row",
    [
        [],
        [1, b"miss"],
        [1, b"miss", b"", b"", b"", 1, 0, 1, []],
        [1, b"miss", b"", b"", b"", 1, 0, 1, [], 0, [], 0, 1],
        [1, b"other", b"", b"", b"", 1, 0, 1, [], 0, [], 0, 1, 8],
        [1, b"miss", b"", b"", b"", 1, 0, 1, b"x", 0, [], 0, 1, 8],
        [1, b"miss", b"", b"", b"", 1, 0, 1, [], 0, b"x", 0, 1, 8],
        [1, b"miss", b"", b"", b"", 1, 0, 1, [], None, [], 0, 1, 8],
        [1, b"miss", b"", b"", b"", 1, 0, 1, [], 0, [], 0, 1, []],
        [None, b"miss", b"", b"", b"", 1, 0, 1, [], 0, [], 0, 1, 8],
    ],
)
def test_what_is_no_job(row: list[object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_job(SHARD, row)


def test_what_a_job_brings_of_its_clients() -> None:
    assert (job().queued_ms, job().request_ids, job().answer_ttl_s) == (7, ["a", "b-c"], 60)


def test_misses_of_a_registration_that_takes_several_are_one_run() -> None:
    def made(number: int, registration: bytes, batch: int) -> Job:
        row = [number, b"miss", registration, b"keymiss", b"key", 1, 0, 1, [], 0, [], 0, batch, 8]
        return parse_job(SHARD, row)

    several, one, other = b"sha-0", b"sha-1", b"sha-2"
    given = [(1, several, 2), (2, one, 1), (3, one, 1), (4, several, 2), (5, other, 9), (6, several, 2)]
    runs = runs_of([made(*each) for each in given])
    assert [[job.id for job in run] for run in runs] == [[1, 4], [6], [2], [3], [5]]


def test_overdue() -> None:
    late = job()
    late.pulled_at_s -= 31
    assert late.overdue
    late.remaining_ms = 0
    assert not late.overdue


def test_counts_name_every_status() -> None:
    counts = JobCounts()
    counts.pulled(2)
    counts.ended(JobKind.MISS, JobStatus.DONE)
    assert counts.snapshot() == {
        "pulled": 2,
        **{status.value: int(status is JobStatus.DONE) for status in JobStatus},
    }
