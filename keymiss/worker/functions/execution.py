"""Runs a flow over the shards it concerns.

Between two steps that move records, the shards work in parallel, each in a thread of its own with
that shard as its context, and with globals of its own. Moving steps hold all records in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle

from keymiss.cluster.topology import Shard, shard_of
from keymiss.keys import slot_of
from keymiss.logs import one_line
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Run, Sink, Step, StepKind
from keymiss.worker.functions.job_context import CURRENT, GearsError, JobContext
from keymiss.worker.functions.records import (
    SCAN_COUNT,
    decode,
    missing_record,
    read_records,
    scan,
    scan_records,
)

Reader = Callable[[JobContext], Iterator[Any]]


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


def flows_of_run(run: Run, here: Shard, others: bool) -> FlowOf:
    """The flow of a ``run()`` call as each shard has it. That where the script ran has the script's own
    globals, each of the `others` a copy of what they were when the top level had ended. GearsError if they
    cannot be copied."""
    flows = {here: Flow(_run_reader(run), run.steps)}
    if not others:
        return lambda _shard: flows[here]
    try:
        copied = cloudpickle.dumps(run)
    except Exception as error:
        raise GearsError(
            "Error occured when serialized a python callback: each shard runs a copy of the functions and of "
            f"the globals they use; make in the function what cannot be copied ({one_line(error)})"
        ) from None
    guard = threading.Lock()

    def flow_of(shard: Shard) -> Flow:
        with guard:
            if shard not in flows:
                copy: Run = cloudpickle.loads(copied)
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
