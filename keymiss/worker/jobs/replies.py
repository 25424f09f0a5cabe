"""How jobs are answered: KM.DONE or KM.FAIL, and what became of that."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import AskError, RedisError, ResponseError, TryAgainError

from keymiss.logs import log_event, one_line
from keymiss.reading.backends.base import ModelError
from keymiss.reading.tensors import TensorError
from keymiss.worker.functions.interruption import Shield
from keymiss.worker.functions.job_context import GearsError, JobContext, error_text
from keymiss.worker.job import Job, JobKind, JobStatus
from keymiss.worker.jobs import resp

_CODE = re.compile(r"(ERR|WRONGTYPE|OOM|READONLY|MOVED|ASK|CROSSSLOT|NOPERM|MISCONF|NOREPLICAS|CLUSTERDOWN) ")
"""How an error begins that has a code already."""

_MOVES = "TRYAGAIN the key's slot is on its way to another shard"
"""As the server itself would say: who asked does so again."""


REPLACED = -1
"""What KM.DONE and KM.FAIL reply when a model is not of that version any more."""


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


def ended(job: Job, n_results: int, results: bytes, errors: bytes) -> Reply:
    """Of a run whose client has its id; both are RESP2 arrays."""
    return Reply(job, ("KM.ENDED", job.id, n_results, results, errors), End(JobStatus.DONE))


def failed(job: Job, text: str) -> Reply:
    """Its clients get FAILED and the text."""
    return Reply(job, ("KM.FAIL", job.id, text), End(JobStatus.FAILED, text))


def failed_by(job: Job, error: Exception) -> Reply:
    """The same, of an error; that the slot of what was missed moves is said plainly."""
    text = error_text(error)
    if job.kind is not JobKind.MISS or not isinstance(error, AskError | TryAgainError):
        return failed(job, text)
    return Reply(job, ("KM.DONE", job.id, resp.encode(resp.Error(_MOVES))), End(JobStatus.FAILED, text))


def failed_plainly(job: Job, error: Exception) -> Reply:
    """Its clients get what the error says, and nothing before it but ERR where it has no code of its own."""
    text = plain_text(error)
    return Reply(job, ("KM.FAIL", job.id, text, "PLAIN"), End(JobStatus.FAILED, one_line(error)))


def plain_text(error: Exception) -> str:
    """An error reply, without the minus."""
    if isinstance(error, AskError | TryAgainError):
        return _MOVES
    said = error.reason if isinstance(error, ModelError) else str(error)
    if not isinstance(error, (ModelError, TensorError, ResponseError)):
        said = one_line(error)
    text = " ".join(said.split()) or type(error).__name__
    return text if _CODE.match(text) else f"ERR {text}"


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


def _reply_of(job: Job, value: object) -> Reply:
    if isinstance(value, Exception):
        return failed_by(job, value)
    return done(job, resp.encode(resp.from_override(value)))


def _only_of(models: Sequence[tuple[str, int]]) -> list[object]:
    return ["MODELS", *(word for model in models for word in model)]


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
        self._add(_reply_of(self._take("override_reply", record), value))

    def fail(self, error: object, record: Any) -> None:
        """The same, that it failed."""
        job = self._take("fail_reply", record)
        self._add(failed_by(job, error) if isinstance(error, Exception) else failed(job, str(error)))

    def with_commands(
        self,
        commands: Sequence[Sequence[Any]],
        values: Sequence[tuple[object, Any]],
        models: Sequence[tuple[str, int]],
    ) -> tuple[list[Any], list[bool]]:
        """The replies (an exception: that it failed) of records, behind commands in one round trip. They
        count only while the models are of these versions. Returns the commands' replies, and of each record
        whether it has its reply: else it is as before."""
        replies = [_reply_of(self._peek(record), value) for value, record in values]
        conditional = [(*reply.command, *_only_of(models)) for reply in replies]
        with Shield():
            got = self._context.connection.pipeline([*commands, *conditional])
            taken = got[len(commands) :]
            for reply, (_, record), one in zip(replies, values, taken, strict=True):
                if one != REPLACED:
                    del self._open[id(record)]
                    self._on_end(reply.job, _end_of(self._context, reply, one))
        return got[: len(commands)], [one != REPLACED for one in taken]

    def rest(self, error: Exception | None = None) -> None:
        """What has no reply yet fails with the error, or gets null."""
        for job in self._open.values():
            reply = done(job, resp.encode(None)) if error is None else failed_by(job, error)
            self._ready.append(reply)
        self._open.clear()

    def flush(self) -> None:
        """Sends what is ready, and does not stop half-way when the function is ended."""
        with Shield():
            ready, self._ready = self._ready, []
            if ready:
                for reply, end in zip(ready, send(self._context, ready), strict=True):
                    self._on_end(reply.job, end)

    def _take(self, name: str, record: Any) -> Job:
        job = self._peek(record, name)
        del self._open[id(record)]
        return job

    def _peek(self, record: Any, name: str = "override_reply") -> Job:
        job = self._open.get(id(record))
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
