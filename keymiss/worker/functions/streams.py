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
from keymiss.worker.functions.builder import Registration, StreamOptions
from keymiss.worker.functions.job_context import JobContext, error_text
from keymiss.worker.functions.records import decode, stream_record
from keymiss.worker.job import Job

SLICE_S = 2.0
"""A job that has run so long lets others have its thread; the rest of the stream is a new job."""

CONSUMER = "worker"
"""One name for all workers: they never read at the same time, and each goes on where the last one died."""

COMES_AGAIN = "it is tried again by itself"
"""A note on an error: nothing was missed by it."""

RunBatch = Callable[[list[dict[str, Any]]], None]
"""Runs the flow over a batch of records; raises what went wrong."""


def read_stream(context: JobContext, job: Job, registration: Registration, run_batch: RunBatch) -> None:
    """Works the stream off. With the policy "continue" a batch that fails is logged and passed over; with
    "abort" and "retry" it stays, and the error is raised (and, with "retry", the job comes again after the
    interval)."""
    options, connection = registration.stream, context.connection
    group = _group_of(registration)
    if group is not None:
        _make_group(connection, job.key, group)
    until_s = time.monotonic() + SLICE_S
    while rows := _read(connection, job.key, group, options.batch):
        fills_in_s = _fills_in_s(rows, options)
        if fills_in_s > 0:
            _again_later(context, job, fills_in_s)
            return
        if not _run(context, job, registration, run_batch, rows):
            return
        _finish(connection, job.key, group, [number for number, _ in rows])
        if time.monotonic() > until_s:
            connection.command("KM.NOTIFY", job.event, job.key)
            return


def _run(
    context: JobContext, job: Job, registration: Registration, run_batch: RunBatch, rows: list[Any]
) -> bool:
    """Whether the shard says to go on; it is told how the batch ended."""
    began_s, options = time.monotonic(), registration.stream
    lag_us = max(0, int(time.time() * 1000) - _entry_ms(rows[0])) * 1000
    failed: Exception | None = None
    try:
        run_batch([stream_record(job.key, row) for row in rows])
    except Exception as error:
        failed = error
    took_us = int((time.monotonic() - began_s) * 1e6)
    text = () if failed is None else (error_text(failed),)
    goes_on = bool(context.connection.command("KM.BATCHED", job.id, took_us, lag_us, *text))
    if failed is None or options.on_failed == "continue":
        if failed is not None:
            log_event(
                "records_passed_over",
                "warning",
                stream=decode(job.key),
                n=len(rows),
                error=one_line(failed),
            )
        if not goes_on:  # paused, or aborted: what is done is done
            _finish(context.connection, job.key, _group_of(registration), [number for number, _ in rows])
        return goes_on
    if options.on_failed == "retry":
        _again_later(context, job, options.retry_s)
        failed.add_note(COMES_AGAIN)
    raise failed


def _group_of(registration: Registration) -> str | None:
    """The consumer group: that of the session, so that an upload in its place goes on where it was."""
    return None if registration.stream.trim else f"gears-{registration.session}-{registration.ordinal}"


def _fills_in_s(rows: list[Any], options: StreamOptions) -> float:
    """How much longer the oldest record waits for others."""
    if len(rows) >= options.batch or not options.duration_ms:
        return 0.0
    return (_entry_ms(rows[0]) + options.duration_ms) / 1000 - time.time()


def _entry_ms(row: Any) -> int:
    return int(row[0].partition(b"-")[0])


def _make_group(connection: ShardConnection, key: bytes, group: str) -> None:
    try:
        connection.command("XGROUP", "CREATE", key, group, "0")
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def _read(connection: ShardConnection, key: bytes, group: str | None, count: int) -> list[Any]:
    if group is None:
        return list(connection.command("XRANGE", key, "-", "+", "COUNT", count))
    for position in ("0", ">"):  # what was delivered and not acknowledged, then what is new
        reply = connection.command(
            "XREADGROUP", "GROUP", group, CONSUMER, "COUNT", count, "STREAMS", key, position
        )
        if reply and reply[0][1]:
            return list(reply[0][1])
    return []


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
