"""Runs a flow over the shards it concerns.

Between two steps that move records, the shards work in parallel, each in a thread of its own with
that shard as its context, and with globals of its own. Moving steps hold all records in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from keymiss.cluster.topology import Shard, shard_of
from keymiss.keys import slot_of
from keymiss.logs import one_line
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Run, Sink, Step, StepKind
from keymiss.worker.functions.flow_copies import CopiedRun
from keymiss.worker.functions.interruption import Interruption
from keymiss.worker.functions.job_context import CURRENT, FlatError, GearsError, JobContext
from keymiss.worker.functions.records import (
    SCAN_COUNT,
    decode,
    missing_record,
    read_records,
    scan,
    scan_records,
    stream_record,
)

Reader = Callable[[JobContext], Iterator[Any]]

MAX_IDLE = "Execution max idle reached"

LOOK_S = 0.2
"""A thread that waits for others runs a line of Python so often: else it could not be aborted."""


@dataclass(frozen=True)
class Flow:
    """What a shard runs."""

    reader: Reader
    steps: Sequence[Step]


FlowOf = Callable[[Shard], Flow]


def apply_local(records: Iterator[Any], steps: Sequence[Step], sink: Sink) -> Iterator[Any]:
    """Chains local steps lazily: a record passes all of them before the next one is read."""
    for step in steps:
        if step.local is None:
            raise GearsError(f"step {step.name} moves records: it cannot run here")
        records = step.local(records, sink)
    return records


def run_flow(context: JobContext, shards: Sequence[Shard], flow_of: FlowOf, sink: Sink) -> list[Any]:
    """All records that come out at the end, shard after shard. `sink` gets the error of each record
    that failed; what it raises ends the flow. The flows of all shards have the same steps."""
    steps = flow_of(context.shard).steps
    parts: dict[Shard, Iterator[Any] | None] = dict.fromkeys(shards)
    first = 0
    while True:
        end = first
        while end < len(steps) and steps[end].kind is StepKind.LOCAL:
            end += 1
        done = _run_segment(context, parts, flow_of, slice(first, end), sink)
        if end == len(steps):
            return [record for records in done.values() for record in records]
        if steps[end].kind is StepKind.COLLECT:
            parts = {context.shard: iter([record for records in done.values() for record in records])}
        else:
            parts = _repartition(context, done, flow_of, end, sink)
        first = end + 1


def _run_segment(
    context: JobContext, parts: dict[Shard, Iterator[Any] | None], flow_of: FlowOf, segment: slice, sink: Sink
) -> dict[Shard, list[Any]]:
    """The reader is run where a shard has no records yet."""

    def on_shard(shard: Shard) -> list[Any]:
        here, flow, records = context.on(shard), flow_of(shard), parts[shard]
        token = CURRENT.set(here)
        try:
            return list(
                apply_local(flow.reader(here) if records is None else records, flow.steps[segment], sink)
            )
        finally:
            CURRENT.reset(token)

    if len(parts) == 1:
        (shard,) = parts
        try:
            return {shard: on_shard(shard)}
        except Exception as error:
            sink(error)
            return {shard: []}
    return _in_threads(context, list(parts), on_shard, sink)


def _in_threads(
    context: JobContext, shards: list[Shard], work: Callable[[Shard], list[Any]], sink: Sink
) -> dict[Shard, list[Any]]:
    """A shard whose part takes longer than the setting ExecutionMaxIdleTime is not waited for."""
    results: dict[Shard, list[Any]] = {shard: [] for shard in shards}
    failures: dict[Shard, Exception] = {}
    stop = threading.Event()
    limits, begun = context.services.limits, list[Interruption]()

    def body(shard: Shard) -> None:
        try:
            done = limits.run_beside(context.run, lambda: work(shard), begun.append)
            if not stop.is_set():
                results[shard] = done
        except Exception as error:
            failures[shard] = error
        except SystemExit as error:
            failures[shard] = GearsError(f"the function ended by {one_line(error)}")
        finally:
            event_loops.cancel_leftovers()
            event_loops.close_thread_loop()
            context.services.connections.close_mine()

    threads = {
        shard: threading.Thread(target=body, args=(shard,), name=f"run-{shard.address}", daemon=True)
        for shard in shards
    }
    for thread in threads.values():
        thread.start()
    until_s = time.monotonic() + context.services.max_idle_s(context)
    while any(thread.is_alive() for thread in threads.values()) and time.monotonic() < until_s:
        for thread in threads.values():
            thread.join(LOOK_S)
    stop.set()
    for shard, error in list(failures.items()):
        sink(
            error if isinstance(error, FlatError) else GearsError(f"shard {shard.address}: {one_line(error)}")
        )
    late = [interruption for interruption in begun if interruption.is_open]
    if late:
        for interruption in late:
            interruption.interrupt(MAX_IDLE)
        sink(FlatError(MAX_IDLE))
    return dict(results)


def _repartition(
    context: JobContext, done: dict[Shard, list[Any]], flow_of: FlowOf, number: int, sink: Sink
) -> dict[Shard, Iterator[Any] | None]:
    shards = context.services.masters()
    targets: dict[Shard, list[Any]] = {shard: [] for shard in shards}
    for source, records in done.items():
        extractor = flow_of(source).steps[number].extractor
        assert extractor is not None
        token = CURRENT.set(context.on(source))
        try:
            for record in records:
                try:
                    targets[shard_of(shards, extractor(record))].append(record)
                except Exception as error:
                    sink(error)
        finally:
            CURRENT.reset(token)
    return {shard: iter(records) for shard, records in targets.items() if records} or {
        context.shard: iter(())
    }


def flows_of_run(run: Run, context: JobContext, others: bool) -> FlowOf:
    """The flow of a ``run()`` call as each shard has it. That where the call was made has the script's own
    globals; each of the `others` those of the same upload there, or, if that has registered nothing, a copy.
    GearsError if they cannot be copied."""
    here = context.shard
    flows = {here: Flow(_run_reader(run), run.steps)}
    if not others:
        return lambda _shard: flows[here]
    scripts = context.services.scripts
    copied = CopiedRun(run, scripts.namespace(context))
    guard = threading.Lock()

    def flow_of(shard: Shard) -> Flow:
        with guard:
            if shard not in flows:
                copy = copied.copy(scripts.namespace(context.on(shard)))
                flows[shard] = Flow(_run_reader(copy), copy.steps)
            return flows[shard]

    return flow_of


def _run_reader(run: Run) -> Reader:
    if run.reader == "ShardsIDReader":
        return lambda context: iter([context.shard.node_id])
    if run.reader == "PythonReader":
        return lambda _context: iter(run.arg())
    if run.reader == "KeysOnlyReader":
        return lambda context: _key_names(context, run)
    if run.reader == "StreamReader":
        return lambda context: _stream_entries(context, run)
    if run.options.get("noScan", False):
        return lambda context: _one_record(context, run)
    return lambda context: scan_records(context.connection, run.arg, run.options.get("readValue", True))


def _key_names(context: JobContext, run: Run) -> Iterator[Any]:
    pattern, no_scan = run.arg, run.options.get("noScan", False)
    generator = run.options.get("patternGenerator")
    if generator is not None:
        pattern, no_scan = generator()
    if not no_scan:
        for names in scan(context.connection, pattern, run.options.get("count", SCAN_COUNT)):
            yield from decode(names)
    elif _is_here(context, pattern) and context.connection.command("EXISTS", pattern):
        yield pattern


def _stream_entries(context: JobContext, run: Run) -> Iterator[dict[str, Any]]:
    """Of the stream with the name, or of those that begin so (``name*``): the entries behind `fromId`."""
    name = run.arg
    if name.endswith("*"):
        found = (key for names in scan(context.connection, name) for key in names)
        streams = [key for key in found if context.connection.command("TYPE", key) == b"stream"]
    else:
        streams = [_encode(name)] if _is_here(context, name) else []
    for key in streams:
        after = run.options.get("fromId", "0-0")
        try:
            while reply := context.connection.command("XREAD", "COUNT", SCAN_COUNT, "STREAMS", key, after):
                entries = reply[0][1]
                for row in entries:
                    yield stream_record(key, row)
                after = entries[-1][0]
        except ResponseError as error:
            raise FlatError(f"ERR {error}") from None


def _one_record(context: JobContext, run: Run) -> Iterator[dict[str, Any]]:
    """Of every shard, as in RedisGears: where the key is not there, it is of the type "empty"."""
    read_value = run.options.get("readValue", True)
    if _is_here(context, run.arg):
        return iter(read_records(context.connection, [_encode(run.arg)], None, read_value))
    return iter([missing_record(run.arg, None, read_value)])


def _is_here(context: JobContext, key: str) -> bool:
    return context.shard.owns(slot_of(key))


def _encode(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
