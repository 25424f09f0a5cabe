"""One thread for each master takes jobs from it, as many as there is room for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from keymiss.cluster.credentials import Credentials
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import Shard
from keymiss.logs import log_event, one_line
from keymiss.worker.job import Job, JobStatus, parse_job, runs_of
from keymiss.worker.jobs.threads import JobPool
from keymiss.worker.metrics import JobMetrics

BLOCK_MS = 1000
"""How long one KM.PULL waits; a stop takes at most that long to be noticed."""

REPLY_MARGIN_S = 10.0
"""A KM.PULL that is not answered so long after its time is a dead connection."""

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class Puller:
    """Pulls from one shard until stopped. The shard takes back what the connection pulled when it
    breaks, so the connection stays open until the last of its jobs has ended. `away`: as another host's
    worker. `on_connect` is told of each new connection: the server may be another process."""

    def __init__(
        self,
        name: str,
        shard: Shard,
        away: bool,
        credentials: Credentials,
        pool: JobPool,
        metrics: JobMetrics,
        on_connect: Callable[[Shard], None],
        on_trouble: Callable[[], None],
        on_dead: Callable[[str], None],
    ) -> None:
        self.shard = shard
        self.generation = 0
        self.attached = False
        """Whether the shard answered the last pull."""
        self._greeted = -1  # the generation that on_connect was told of
        self._name = name
        self._words = ("LOOKS", "AWAY") if away else ("LOOKS",)
        self._pool = pool
        self._metrics = metrics
        self._on_connect = on_connect
        self._on_trouble = on_trouble
        self._on_dead = on_dead
        self._stop = threading.Event()
        self._credentials = credentials
        timeout_s = BLOCK_MS / 1000 + REPLY_MARGIN_S
        self._connection = ShardConnection(shard.master, timeout_s, credentials, tells=True)
        self._thread = threading.Thread(target=self._body, name=f"pull-{shard.address}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more; what comes in with the pull under way is given back."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Waits for the thread."""
        self._thread.join(timeout_s)

    @property
    def stopped(self) -> bool:
        """True when the thread has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Closes the connection: the shard takes back what is not finished."""
        self._connection.close()

    def _body(self) -> None:
        failures = 0
        try:
            while not self._stop.is_set():
                room = self._pool.wait_free(0.5)
                if room == 0:
                    continue
                try:
                    self._pull(room)
                    failures = 0
                except (RedisError, OSError) as error:
                    self._lost(error, failures)
                    self._stop.wait(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                    failures += 1
        except BaseException as error:
            self._on_dead(f"puller of {self.shard.address}: {one_line(error)}")

    def _pull(self, room: int) -> None:
        if self._greeted != self.generation:
            self._greeted = self.generation
            self._on_connect(self.shard)
        rows = self._connection.command("KM.PULL", self._name, room, BLOCK_MS, *self._words)
        self.attached = True
        if not rows:
            return
        jobs = [parse_job(self.shard, row) for row in rows]
        for job in jobs:
            job.puller, job.generation = self, self.generation
        self._metrics.pulled(len(jobs))
        if self._stop.is_set():
            give_back(self.shard, self._credentials, jobs)
            for job in jobs:
                self._metrics.ended(job, JobStatus.GIVEN_BACK)
        else:
            self._pool.submit(runs_of(jobs))

    def _lost(self, error: Exception, failures: int) -> None:
        """The shard has its jobs back by now: those that have not started here are dropped."""
        self.generation += 1
        self.attached = False
        self._connection.close()
        dropped = self._pool.take_queued(lambda job: job.puller is self)
        for job in dropped:
            self._metrics.ended(job, JobStatus.LOST)
        if failures % 10 == 0:
            log_event(
                "pull_failed",
                "warning",
                shard=self.shard.address,
                error=one_line(error),
                dropped=len(dropped),
            )
        self._on_trouble()


def give_back(shard: Shard, credentials: Credentials, jobs: Sequence[Job]) -> bool:
    """Hands jobs back to their shard. False when it cannot be reached: the shard takes them back by
    itself when the puller's connection closes."""
    connection = ShardConnection(shard.master, 2.0, credentials)
    try:
        connection.command("KM.GIVEBACK", *(job.id for job in jobs))
        return True
    except (RedisError, OSError) as error:
        log_event("giveback_failed", "warning", shard=shard.address, jobs=len(jobs), error=one_line(error))
        return False
    finally:
        connection.close()
