"""Runs a flow over the shards it concerns.

Between two steps that move records, the shards work in parallel, each in a thread of its own with
that shard as its context. Moving steps hold all records in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keymiss.cluster.topology import Shard, shard_of
from keymiss.logs import one_line
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Run, Sink, Step, StepKind
from keymiss.worker.functions.job_context import CURRENT, GearsError, JobContext
from keymiss.worker.functions.records import scan_keys, scan_records

Reader = Callable[[JobContext], Iterator[Any]]


def apply_local(records: Iterator[Any], steps: Sequence[Step], sink: Sink) -> Iterator[Any]:
    """Chains local steps lazily: a record passes all of them before the next one is read."""
    for step in steps:
        if step.local is None:
            raise GearsError(f"step {step.name} moves records: it cannot run here")
        records = step.local(records, sink)
    return records


def run_flow(
    context: JobContext, shards: Sequence[Shard], reader: Reader, steps: Sequence[Step], sink: Sink
) -> list[Any]:
    """All records that come out at the end, shard after shard. `sink` gets the error of each record
    that failed; what it raises ends the flow."""
    parts: dict[Shard, Iterator[Any] | None] = dict.fromkeys(shards)
    first = True
    remaining = list(steps)
    while True:
        segment: list[Step] = []
        while remaining and remaining[0].kind is StepKind.LOCAL:
            segment.append(remaining.pop(0))
        mover = remaining.pop(0) if remaining else None
        done = _run_segment(context, parts, reader if first else None, segment, sink)
        first = False
        if mover is None:
            return [record for records in done.values() for record in records]
        if mover.kind is StepKind.COLLECT:
            parts = {context.shard: iter([record for records in done.values() for record in records])}
        else:
            parts = _repartition(context, done, mover, sink)


def _run_segment(
    context: JobContext,
    parts: dict[Shard, Iterator[Any] | None],
    reader: Reader | None,
    steps: Sequence[Step],
    sink: Sink,
) -> dict[Shard, list[Any]]:
    def on_shard(shard: Shard) -> list[Any]:
        here = context.on(shard)
        token = CURRENT.set(here)
        try:
            records = reader(here) if reader is not None else (parts[shard] or iter(()))
            return list(apply_local(records, steps, sink))
        finally:
            CURRENT.reset(token)

    if len(parts) == 1:
        (shard,) = parts
        return {shard: on_shard(shard)}
    return _in_threads(context, list(parts), on_shard, sink)


def _in_threads(
    context: JobContext, shards: list[Shard], work: Callable[[Shard], list[Any]], sink: Sink
) -> dict[Shard, list[Any]]:
    results: dict[Shard, list[Any]] = {shard: [] for shard in shards}
    failures: dict[Shard, Exception] = {}

    def body(shard: Shard) -> None:
        try:
            results[shard] = work(shard)
        except Exception as error:
            failures[shard] = error
        finally:
            event_loops.cancel_leftovers()
            event_loops.close_thread_loop()
            context.services.connections.close_mine()

    threads = [threading.Thread(target=body, args=(s,), name=f"run-{s.address}", daemon=True) for s in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for shard, error in failures.items():
        sink(GearsError(f"shard {shard.address}: {one_line(error)}"))
    return results


def _repartition(
    context: JobContext, done: dict[Shard, list[Any]], step: Step, sink: Sink
) -> dict[Shard, Iterator[Any] | None]:
    shards = context.services.masters()
    targets: dict[Shard, list[Any]] = {shard: [] for shard in shards}
    assert step.extractor is not None
    for records in done.values():
        for record in records:
            try:
                key = str(event_loops.resolve(step.extractor(record)))
                targets[shard_of(shards, key)].append(record)
            except Exception as error:
                sink(error)
    return {shard: iter(records) for shard, records in targets.items() if records} or {
        context.shard: iter(())
    }


def run_reader(run: Run) -> Reader:
    """The reader of a ``run()`` call."""
    if run.reader == "ShardsIDReader":
        return lambda context: iter([context.shard.node_id])
    if run.reader == "PythonReader":
        return lambda _context: iter(run.arg())
    if run.reader == "KeysOnlyReader":
        return lambda context: scan_keys(context.connection, run.arg, run.no_scan)
    return lambda context: scan_records(context.connection, run.arg, run.no_scan, run.read_value)
