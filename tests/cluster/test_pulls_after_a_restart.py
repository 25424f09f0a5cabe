"""A server that was restarted while its worker had no room for jobs is noticed: what it forgot is done."""

from __future__ import annotations

import threading
from typing import Any

from prometheus_client import CollectorRegistry

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.topology import Shard
from keymiss.worker.jobs.pull import Puller
from keymiss.worker.metrics import JobMetrics
from tests.servers import RedisServer, wait_until


class Room:
    """A pool with room for a job or none."""

    def __init__(self) -> None:
        self.there, self.asked = threading.Event(), 0
        self.there.set()

    def wait_free(self, timeout_s: float) -> int:
        self.asked += 1
        return int(self.there.wait(timeout_s))

    def take_queued(self, wanted: Any) -> list[Any]:
        return []


def test_a_restart_between_two_pulls() -> None:
    room: Any = Room()
    connected: list[int] = []
    dead: list[str] = []
    with RedisServer() as server:
        shard = Shard(Address("127.0.0.1", server.port), "the-node")
        puller = Puller(
            "w",
            shard,
            False,
            Credentials(),
            room,
            JobMetrics(CollectorRegistry()),
            lambda shard: connected.append(puller.generation),
            lambda: None,
            dead.append,
        )
        puller.start()
        wait_until(lambda: puller.attached)
        room.there.clear()
        asked = room.asked
        wait_until(lambda: room.asked > asked + 1)  # no pull is under way
        server.restart()
        room.there.set()
        wait_until(lambda: len(connected) == 2)
        puller.stop()
        puller.join(20)
        puller.close()
    assert (connected, dead) == ([0, 1], [])
