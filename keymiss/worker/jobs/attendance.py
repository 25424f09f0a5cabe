"""What a worker does when it attaches to a shard: it has what was missed done (`keymiss.corpus.catchup`).

In a thread of its own, so that the first questions need not wait for it. A shard is known by its server's
run id: a connection that only broke missed nothing, because its jobs and events are still in the server.
But an event that failed because a shard could not be reached is over: then what is there is looked at
again, too.
"""

from __future__ import annotations

import threading

from redis.exceptions import ClusterDownError, RedisError

from keymiss.cluster.credentials import Credentials
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import Shard
from keymiss.corpus.catchup import catch_up
from keymiss.logs import log_event, one_line

TRIES, PAUSE_S = 600, 1.0
"""A server may read its data for minutes, and a cluster be down as long."""
MISSED_PAUSE_S = 5.0
TIMEOUT_S = 30.0


class Attendance:
    """Knows the server processes that were caught up with."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._run_ids: dict[str, bytes] = {}
        self._busy: set[str] = set()
        self._missed: set[str] = set()
        self._stopping = threading.Event()

    def connected(self, shard: Shard) -> None:
        """Starts the thread, unless one is at it."""
        self._start(shard, 0.0)

    def missed(self, shard: Shard) -> None:
        """An event failed for a reason that passes: all is looked at again in MISSED_PAUSE_S."""
        with self._lock:
            self._missed.add(shard.identity)
        self._start(shard, MISSED_PAUSE_S)

    def _start(self, shard: Shard, pause_s: float) -> None:
        with self._lock:
            if shard.identity in self._busy:
                return
            self._busy.add(shard.identity)
        threading.Thread(
            target=self._body, args=(shard, pause_s), name=f"attach-{shard.address}", daemon=True
        ).start()

    def stop(self) -> None:
        """Tries no more."""
        self._stopping.set()

    def _body(self, shard: Shard, pause_s: float) -> None:
        connection = ShardConnection(shard.master, TIMEOUT_S, self._credentials)
        failures, ended = 0, False
        try:
            while failures < TRIES and not self._stopping.wait(pause_s):
                try:
                    self._catch_up(shard, connection)
                except (RedisError, OSError) as error:  # loading, down, demoted
                    if failures == 0:
                        log_event("catch_up_failed", "warning", shard=shard.address, error=one_line(error))
                    failures, pause_s = failures + 1, PAUSE_S
                    continue
                with self._lock:
                    if shard.identity not in self._missed:
                        self._busy.discard(shard.identity)
                        ended = True  # from here on another thread may be at it
                        return
                failures, pause_s = 0, MISSED_PAUSE_S
        finally:
            connection.close()
            if not ended:
                with self._lock:
                    self._busy.discard(shard.identity)

    def _catch_up(self, shard: Shard, connection: ShardConnection) -> None:
        info = connection.command("INFO", "server", "cluster").splitlines()
        run_id = next(line for line in info if line.startswith(b"run_id:"))
        with self._lock:
            if self._run_ids.get(shard.identity) == run_id and shard.identity not in self._missed:
                return
        if b"cluster_enabled:1" in info and b"cluster_state:ok" not in connection.command("CLUSTER", "INFO"):
            raise ClusterDownError("the cluster is down")  # every function would fail
        with self._lock:
            self._missed.discard(shard.identity)
        queued = catch_up(connection.command)
        with self._lock:
            self._run_ids[shard.identity] = run_id
        log_event("caught_up", shard=shard.address, queued=queued)
