"""StreamReader: runs a registration's flow over what waits in a stream, batch after batch, oldest first.

The module hands out one job at a time for a registration and a stream, so records keep their order. A batch
is deleted from the stream (or, with ``trimStream=False``, acknowledged in the registration's consumer group)
after the flow has run over it: what a worker leaves undone when it dies is read again. So a function sees
each record at least once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from keymiss.cluster.shard_connection import ShardConnection
from keymiss.logs import log_event, one_line
from keymiss.worker.functions.builder import Registration
from keymiss.worker.functions.job_context import JobContext
from keymiss.worker.functions.records import decode
from keymiss.worker.job import Job

SLICE_S = 2.0
"""A job that has run so long lets others have its thread; the rest of the stream is a new job."""

CONSUMER = "worker"
"""One name for all workers: they never read at the same time, and each goes on where the last one died."""

COMES_AGAIN = "it is tried again by itself"
"""A note on an error: nothing was missed by it."""

Entry = tuple[bytes, dict[str, Any]]
RunBatch = Callable[[list[dict[str, Any]]], None]
"""Runs the flow over a batch of records; raises what went wrong."""


def read_stream(context: JobContext, job: Job, registration: Registration, run_batch: RunBatch) -> None:
    """Works the stream off. With the policy "continue" a batch that fails is logged and passed over; with
    "abort" and "retry" it stays, and the error is raised (and, with "retry", the job comes again after the
    interval)."""
    options, connection = registration.stream, context.connection
    group = None if options.trim else f"gears-{job.registration_id}"
    if group is not None:
        _make_group(connection, job.key, group)
    until_s = time.monotonic() + SLICE_S
    while entries := _read(connection, job.key, group, options.batch):
        records = [_record(job.key, entry) for entry in entries]
        try:
            run_batch(records)
        except Exception as error:
            if options.on_failed == "retry":
                _again_later(context, job, options.retry_s)
                error.add_note(COMES_AGAIN)
            if options.on_failed != "continue":
                raise
            log_event(
                "records_passed_over",
                "warning",
                stream=decode(job.key),
                n=len(records),
                error=one_line(error),
            )
        _finish(connection, job.key, group, [entry[0] for entry in entries])
        if time.monotonic() > until_s:
            connection.command("KM.NOTIFY", job.event, job.key)
            return


def _make_group(connection: ShardConnection, key: bytes, group: str) -> None:
    try:
        connection.command("XGROUP", "CREATE", key, group, "0")
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def _read(connection: ShardConnection, key: bytes, group: str | None, count: int) -> list[Entry]:
    if group is None:
        return [_entry(row) for row in connection.command("XRANGE", key, "-", "+", "COUNT", count)]
    for position in ("0", ">"):  # what was delivered and not acknowledged, then what is new
        reply = connection.command(
            "XREADGROUP", "GROUP", group, CONSUMER, "COUNT", count, "STREAMS", key, position
        )
        entries = [_entry(row) for row in reply[0][1]] if reply else []
        if entries:
            return entries
    return []


def _entry(row: Any) -> Entry:
    number, flat = row
    fields = decode(flat or [])  # None: deleted while it was pending
    return number, dict(zip(fields[::2], fields[1::2], strict=True))


def _record(key: bytes, entry: Entry) -> dict[str, Any]:
    return {"key": decode(key), "id": entry[0].decode(), "value": entry[1]}


def _finish(connection: ShardConnection, key: bytes, group: str | None, numbers: list[bytes]) -> None:
    command = ("XDEL", key) if group is None else ("XACK", key, group)
    connection.command(*command, *numbers)


def _again_later(context: JobContext, job: Job, retry_s: float) -> None:
    """A thread that sleeps takes no job thread away; when this worker dies, the next one catches up."""

    def notify() -> None:
        try:
            context.connection.command("KM.NOTIFY", job.event, job.key)
        except Exception as error:
            context.services.missed(context.shard)
            log_event("stream_retry_lost", "warning", stream=decode(job.key), error=one_line(error))
        finally:
            context.services.connections.close_mine()

    timer = threading.Timer(retry_s, notify)
    timer.daemon = True
    timer.start()
