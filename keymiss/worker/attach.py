"""What a worker does when it attaches to a shard: it has what was missed done (`keymiss.catchup`).

In a thread of its own, so that the first questions need not wait for it. A shard is known by its server's run id: a
connection that only broke missed nothing, because its jobs and events are still in the server.
"""

from __future__ import annotations

import threading

from redis.exceptions import RedisError

from keymiss.catchup import catch_up
from keymiss.worker.logs import log_event, one_line
from keymiss.worker.shards import Credentials, Shard, ShardConnection

TRIES, PAUSE_S = 30, 1.0
TIMEOUT_S = 30.0


class Attendance:
    """Knows the server processes that were caught up with."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._run_ids: dict[str, bytes] = {}
        self._busy: set[str] = set()
        self._stopping = threading.Event()

    def connected(self, shard: Shard) -> None:
        """Starts the thread, unless one is at it."""
        with self._lock:
            if shard.identity in self._busy:
                return
            self._busy.add(shard.identity)
        threading.Thread(
            target=self._body, args=(shard,), name=f"attach-{shard.address}", daemon=True
        ).start()

    def stop(self) -> None:
        """Tries no more."""
        self._stopping.set()

    def _body(self, shard: Shard) -> None:
        connection = ShardConnection(shard.host, shard.port, TIMEOUT_S, self._credentials)
        try:
            for attempt in range(TRIES):
                try:
                    self._catch_up(shard, connection)
                    return
                except (
                    RedisError,
                    OSError,
                ) as error:  # loading, down, demoted: another connection may follow, or none
                    if attempt == 0:
                        log_event("catch_up_failed", "warning", shard=shard.address, error=one_line(error))
                if self._stopping.wait(PAUSE_S):
                    return
        finally:
            connection.close()
            with self._lock:
                self._busy.discard(shard.identity)

    def _catch_up(self, shard: Shard, connection: ShardConnection) -> None:
        info = connection.command("INFO", "server")
        run_id = next(line for line in info.splitlines() if line.startswith(b"run_id:"))
        with self._lock:
            if self._run_ids.get(shard.identity) == run_id:
                return
        queued = catch_up(connection.command)
        with self._lock:
            self._run_ids[shard.identity] = run_id
        log_event("caught_up", shard=shard.address, queued=queued)
