"""A worker played by the test's own hand: it speaks KM.* and answers when the test says so."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import redis

from tests.patience import patient
from tests.servers import RedisServer, connect, keymiss_info, wait_until

SHA1 = "a" * 40


@dataclass(frozen=True)
class Job:
    """One job as KM.PULL gives it."""

    id: int
    kind: str
    registration: str
    event: str
    key: bytes
    attempts: int
    remaining_ms: int
    cache: bool
    payload: list[bytes]
    queued_ms: int
    request_ids: list[str]
    answer_ttl_s: int
    batch: int
    models_epoch: int


def bulk(text: bytes) -> bytes:
    """A RESP2 bulk string."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


def register_miss(
    client: redis.Redis, prefix: str = "bertqa", id_: str = "miss-0", ordinal: int = 0, batch: int = 1
) -> None:
    """Registers a function for misses of keys that start with prefix, which takes up to `batch` at once."""
    client.execute_command("KM.SCRIPT", "SET", SHA1, "the script's source")
    named = (id_, SHA1, ordinal, "KeysReader", "", "async_local", prefix, "keymiss", "", "get", batch)
    client.execute_command("KM.REGISTER", *named)


def register_events(
    client: redis.Redis,
    prefix: str,
    events: str = "",
    key_types: str = "",
    ordinal: int = 5,
    coalesce: bool = True,
) -> None:
    """Registers a function for key events; `coalesce` as most of the project's own do."""
    client.execute_command("KM.SCRIPT", "SET", SHA1, "the script's source")
    client.execute_command(
        "KM.REGISTER",
        f"events-{ordinal}",
        SHA1,
        ordinal,
        "KeysReader",
        "",
        "async",
        prefix,
        events,
        key_types,
        "",
        1,
        int(coalesce),
    )


class HandWorker:
    """One worker connection."""

    def __init__(self, server: RedisServer, attach: bool = True) -> None:
        """`attach`: now, with whatever waits, instead of with the first pull."""
        self.client = connect(server.port)
        if attach:
            self.pull(block_ms=0, max_jobs=1024)

    def pull(self, max_jobs: int = 16, block_ms: int = 5000) -> list[Job]:
        reply = self.client.execute_command("KM.PULL", "by-hand", max_jobs, block_ms)
        return [
            Job(
                id=j[0],
                kind=j[1].decode(),
                registration=j[2].decode(),
                event=j[3].decode(),
                key=j[4],
                attempts=j[5],
                remaining_ms=j[6],
                cache=bool(j[7]),
                payload=j[8],
                queued_ms=j[9],
                request_ids=[id_.decode() for id_ in j[10]],
                answer_ttl_s=j[11],
                batch=j[12],
                models_epoch=j[13],
            )
            for j in reply or []
        ]

    def done(self, job: Job, raw: bytes) -> int:
        return self.client.execute_command("KM.DONE", job.id, raw)

    def fail(self, job: Job, text: str) -> int:
        return self.client.execute_command("KM.FAIL", job.id, text)

    def die(self) -> None:
        """Closes the connection, as a crash would."""
        self.client.connection_pool.disconnect()


class Asker:
    """Runs one command in a thread; `result()` gives the reply, or the error as a value."""

    def __init__(self, server: RedisServer, *command: Any) -> None:
        self.client = connect(server.port)
        self.id = self.client.client_id()
        self._result: Any = None
        self._thread = threading.Thread(target=self._run, args=command, daemon=True)
        self._thread.start()

    def _run(self, *command: Any) -> None:
        try:
            self._result = self.client.execute_command(*command)
        except Exception as error:
            self._result = error

    @property
    def answered(self) -> bool:
        """Whether the reply is there."""
        return not self._thread.is_alive()

    def result(self, timeout_s: float = 20.0) -> Any:
        self._thread.join(patient(timeout_s))
        assert not self._thread.is_alive(), "the client still waits"
        self.client.close()
        return self._result


def wait_for(server: RedisServer, field: str, value: int) -> None:
    """Waits until a field of INFO keymiss has the value."""
    client = server.client()
    wait_until(lambda: keymiss_info(client)[field] == value, 10, f"{field} == {value}")
    client.close()
