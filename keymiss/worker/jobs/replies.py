"""How jobs are answered: KM.DONE or KM.FAIL, and what became of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from keymiss.logs import log_event, one_line
from keymiss.worker.functions.job_context import GearsError, JobContext
from keymiss.worker.job import Job, JobStatus
from keymiss.worker.jobs import resp


@dataclass(frozen=True)
class End:
    """How a job ended; `error` is the text that was its answer, if it failed."""

    status: JobStatus
    error: str | None = None


@dataclass(frozen=True)
class Reply:
    """One job's, on its way."""

    job: Job
    command: tuple[object, ...]
    end: End


def done(job: Job, raw: bytes) -> Reply:
    """`raw`: one RESP2 value."""
    return Reply(job, ("KM.DONE", job.id, raw), End(JobStatus.DONE))


def failed(job: Job, text: str) -> Reply:
    """Its clients get FAILED and the text."""
    return Reply(job, ("KM.FAIL", job.id, text), End(JobStatus.FAILED, text))


def send(context: JobContext, replies: Sequence[Reply]) -> list[End]:
    """In one round trip; nothing is raised when the shard does not take them."""
    try:
        taken = context.connection.pipeline([reply.command for reply in replies])
    except (RedisError, OSError) as error:
        return [_lost("answer_lost", reply, error) for reply in replies]
    return [_end_of(context, reply, one) for reply, one in zip(replies, taken, strict=True)]


def _end_of(context: JobContext, reply: Reply, taken: Any) -> End:
    if not isinstance(taken, Exception):
        return reply.end if taken == 1 else End(JobStatus.LATE, reply.end.error)
    if reply.end.status is not JobStatus.FAILED and isinstance(taken, ResponseError):
        return send(context, [failed(reply.job, one_line(taken))])[0]
    return _lost("answer_refused", reply, taken)


def _lost(event: str, reply: Reply, error: Exception) -> End:
    job = reply.job
    fields: dict[str, Any] = {"job": job.id, "shard": job.shard.address, "error": one_line(error)}
    log_event(event, "warning", **job.request_fields, **fields)
    return End(JobStatus.LOST, reply.end.error)


class RepliesOfARun:
    """The replies to the misses of one run, each of its own record. They are sent when the function waits for
    something, so that those that are ready are not held back; and by `flush`."""

    def __init__(
        self, context: JobContext, records: Sequence[tuple[Job, Any]], on_end: Callable[[Job, End], None]
    ) -> None:
        self._context, self._on_end = context, on_end
        self._records = records
        self._open = {id(record): job for job, record in records}
        self._ready: list[Reply] = []

    def set(self, value: object, record: Any) -> None:
        """The reply of one of the records. GearsError for anything else, and the second time."""
        job = self._take("override_reply", record)
        self._add(done(job, resp.encode(resp.from_override(value))))

    def fail(self, error: object, record: Any) -> None:
        """The same, that it failed."""
        job = self._take("fail_reply", record)
        self._add(failed(job, one_line(error) if isinstance(error, Exception) else str(error)))

    def rest(self, error: Exception | None = None) -> None:
        """What has no reply yet fails with the error, or gets null."""
        for job in self._open.values():
            reply = done(job, resp.encode(None)) if error is None else failed(job, one_line(error))
            self._ready.append(reply)
        self._open.clear()

    def flush(self) -> None:
        """Sends what is ready."""
        ready, self._ready = self._ready, []
        if ready:
            for reply, end in zip(ready, send(self._context, ready), strict=True):
                self._on_end(reply.job, end)

    def _take(self, name: str, record: Any) -> Job:
        job = self._open.pop(id(record), None)
        if job is not None:
            return job
        if any(record is one for _, one in self._records):
            raise GearsError(f"{name} can be called once only for a record")
        raise GearsError(f"{name}(value, record) needs one of the records that the function was given")

    def _add(self, reply: Reply) -> None:
        if not self._ready:
            with suppress(RuntimeError):  # no coroutine: it is sent when the function ends
                asyncio.get_running_loop().call_soon(self.flush)
        self._ready.append(reply)
