"""Flows over two shards without a server: steps, moves between shards, errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from keymiss import keys
from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.shard_connection import ThreadConnections
from keymiss.cluster.topology import Shard
from keymiss.worker.functions.builder import GearsBuilder, Recorder
from keymiss.worker.functions.execution import flows_of_run, run_flow
from keymiss.worker.functions.inner_runs import start_run
from keymiss.worker.functions.job_context import CURRENT, GearsError, JobContext, current
from keymiss.worker.functions.scripts import ScriptStore
from keymiss.worker.jobs.limits import JobLimits
from keymiss.worker.metrics import ModelMetrics, RunnerMetrics
from keymiss.worker.model_processes.libraries import Libraries
from keymiss.worker.model_processes.pool import ModelPool
from keymiss.worker.model_runner import ModelRunner, ModelStore
from keymiss.worker.not_kept import NotKept
from keymiss.worker.script_runner import ScriptRunner
from keymiss.worker.services import Services

LEFT = Shard(Address("127.0.0.1", 1), "left", ((0, 8191),))
RIGHT = Shard(Address("127.0.0.1", 2), "right", ((8192, 16383),))
DATA = {LEFT: [3, 1, 2, 3], RIGHT: [5, 3]}

Build = Callable[[GearsBuilder], Any]


@pytest.fixture
def context() -> JobContext:
    not_kept = NotKept(CollectorRegistry())
    models = ModelRunner(
        ModelStore(Libraries("dummy"), not_kept),
        ModelPool(1, 60, RunnerMetrics(CollectorRegistry()), lambda _: None),
        ModelMetrics(CollectorRegistry()),
        not_kept,
    )
    connections = ThreadConnections(1.0, Credentials())
    services = Services(
        connections=connections,
        masters=lambda: [LEFT, RIGHT],
        models=models,
        torch_scripts=ScriptRunner(models, Libraries("dummy"), connections),
        scripts=ScriptStore(),
        waiting=contextlib.nullcontext,
        not_kept=not_kept,
        limits=JobLimits(60, connections, lambda _run, _text: None, lambda _: None),
        start=start_run,
        max_idle_s=lambda _: 10.0,
    )
    return JobContext(services, LEFT)


def recorder_of(keep_runs: bool) -> Recorder:
    """With ids that count."""
    return Recorder("upload", keep_runs=keep_runs, new_id=lambda ordinal: f"id-{ordinal}")


def run(
    context: JobContext, build: Build, errors: list[Exception] | None = None, **options: Any
) -> list[Any]:
    """The result of ``build(GB('PythonReader')).run()`` over DATA."""
    recorder = recorder_of(True)
    token = CURRENT.set(JobContext(context.services, context.shard, recorder=recorder))
    try:
        build(GearsBuilder("PythonReader")).run(
            lambda: DATA[current().shard], **{"convertToStr": False, **options}
        )
    finally:
        CURRENT.reset(token)
    assert recorder.run is not None

    def sink(error: Exception) -> None:
        if errors is None:
            raise error
        errors.append(error)

    return run_flow(context, [LEFT, RIGHT], flows_of_run(recorder.run, context, others=True), sink)


def by_key(records: list[Any]) -> dict[Any, Any]:
    assert len({record["key"] for record in records}) == len(records)
    return {record["key"]: record["value"] for record in records}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda gb: gb, [3, 1, 2, 3, 5, 3]),
        (lambda gb: gb.map(lambda x: x * 10), [30, 10, 20, 30, 50, 30]),
        (lambda gb: gb.filter(lambda x: x > 2), [3, 3, 5, 3]),
        (lambda gb: gb.flatmap(lambda x: list(range(x - 1))), [1, 0, 0, 1, 0, 3, 2, 1, 0, 1, 0]),
        (lambda gb: gb.limit(1).flatmap(lambda x: (x, x)), [(3, 3)]),
        (lambda gb: gb.flatMap(lambda x: x), [3, 1, 2, 3, 5, 3]),
        (lambda gb: gb.foreach(lambda x: x + 1).forEach(str), [3, 1, 2, 3, 5, 3]),
        (lambda gb: gb.accumulate(lambda a, x: (a or 0) + x), [9, 8]),
        (lambda gb: gb.collect().accumulate(lambda a, x: (a or 0) + x), [17]),
        (lambda gb: gb.count(), [6]),
        (lambda gb: gb.filter(lambda _: False).count(), []),
        (lambda gb: gb.aggregate(0, lambda a, x: a + x, lambda a, b: a + b), [17]),
        (lambda gb: gb.sort(), [1, 2, 3, 3, 3, 5]),
        (lambda gb: gb.sort(False), [5, 3, 3, 3, 2, 1]),
        (lambda gb: gb.distinct().sort(), [1, 2, 3, 5]),
        (lambda gb: gb.limit(2), [3, 1]),
        (lambda gb: gb.limit(3, 2), [2, 3, 5]),
        (lambda gb: gb.limit(0), []),
        (lambda gb: gb.avg(), [17 / 6]),
    ],
)
def test_steps(context: JobContext, build: Build, expected: list[Any]) -> None:
    assert run(context, build) == expected


def test_groups(context: JobContext) -> None:
    counts = {"3": 3, "1": 1, "2": 1, "5": 1}
    assert by_key(run(context, lambda gb: gb.countby())) == counts
    assert by_key(run(context, lambda gb: gb.groupby(lambda x: x, lambda _k, a, _r: (a or 0) + 1))) == counts
    assert by_key(run(context, lambda gb: gb.batchgroupby(lambda x: x, lambda _k, rs: len(rs)))) == counts
    assert len(run(context, lambda gb: gb.localgroupby(lambda x: x, lambda _k, a, _r: (a or 0) + 1))) == 5


def test_keys_of_groups_are_text(context: JobContext) -> None:
    def gather(key: str, seen: list[str] | None, _record: Any) -> list[str]:
        return [*(seen or []), key]

    kinds: list[Any] = ["a", 1, 1.5, None, b"b", ("t", 1)]
    build: Build = lambda gb: gb.collect().flatmap(lambda _: kinds).localgroupby(lambda x: x, gather)  # noqa: E731
    grouped = by_key(run(context, build))
    assert set(grouped) == {"a", "1", "1.5", "None", "b'b'", "('t', 1)"}
    assert all(set(keys_seen) == {key} for key, keys_seen in grouped.items())


def test_aggregate_starts_from_a_copy_of_zero(context: JobContext) -> None:
    zero: list[int] = []

    def append(records: list[int], record: int) -> list[int]:
        records.append(record)
        return records

    for _ in range(2):
        assert run(context, lambda gb: gb.aggregate(zero, append, lambda a, b: a + b)) == [[3, 1, 2, 3, 5, 3]]
    assert zero == []


def test_steps_run_on_the_shard_that_owns_the_record(context: JobContext) -> None:
    def where(record: Any) -> tuple[Any, str]:
        return record, current().shard.node_id

    def repartitioned(gb: GearsBuilder) -> GearsBuilder:
        return gb.repartition(lambda x: f"key{x}").map(where)

    assert {node for _, node in run(context, lambda gb: gb.map(where))} == {"left", "right"}
    assert {node for _, node in run(context, lambda gb: gb.collect().map(where))} == {"left"}
    for record, node in run(context, repartitioned):
        assert node == ("left" if keys.slot_of(f"key{record}") < 8192 else "right")


def test_a_record_that_fails_is_dropped_and_named(context: JobContext) -> None:
    errors: list[Exception] = []
    assert run(context, lambda gb: gb.map(lambda x: 6 // (x - 2)), errors) == [6, -6, 6, 2, 6]
    assert [type(error) for error in errors] == [ZeroDivisionError]
    with pytest.raises((ZeroDivisionError, GearsError), match="zero"):
        run(context, lambda gb: gb.map(lambda x: 6 // (x - 2)))


def test_a_reader_that_fails_is_named(context: JobContext) -> None:
    errors: list[Exception] = []

    def reader() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    build: Build = lambda gb: type("Fixed", (), {"run": lambda _s, _f, **o: gb.run(reader, **o)})()  # noqa: E731
    run(context, build, errors)
    assert [str(error) for error in errors] == [f"shard {s.address}: OSError: disk" for s in (LEFT, RIGHT)]


async def wait_then(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def test_steps_may_be_coroutines(context: JobContext) -> None:
    async def plus_one(record: int) -> int:
        assert current().shard in (LEFT, RIGHT)
        return int(await wait_then(record)) + 1

    async def is_odd(record: int) -> bool:
        return bool(await wait_then(record % 2))

    async def add(total: int | None, record: int) -> int:
        return int(await wait_then(record)) + (total or 0)

    assert run(context, lambda gb: gb.map(plus_one).filter(is_odd).collect().accumulate(add)) == [3]


def test_a_coroutine_that_fails_after_an_await(context: JobContext) -> None:
    async def fail(_record: int) -> None:
        await asyncio.sleep(0)
        raise LookupError("after")

    errors: list[Exception] = []
    assert run(context, lambda gb: gb.map(fail), errors) == []
    assert [str(error) for error in errors] == ["after"] * 6


def test_results_become_strings_unless_told_otherwise(context: JobContext) -> None:
    assert run(context, lambda gb: gb.count(), convertToStr=True) == ["6"]


def test_register_takes_everything_down(context: JobContext) -> None:
    recorder = recorder_of(False)
    token = CURRENT.set(JobContext(context.services, LEFT, recorder=recorder))
    try:
        GearsBuilder(desc="first").map(str).register(
            "bertqa*",
            mode="async_local",
            eventTypes=["keymiss"],
            commands=["GET"],
            keyTypes=["empty"],
            onRegistered=print,
        )
        GearsBuilder().register(regex="x", keyTypes=["hash"], coalesce=True)
        GearsBuilder("ShardsIDReader").run()
    finally:
        CURRENT.reset(token)
    first, second = recorder.registrations
    assert (first.ordinal, first.desc, first.prefix, first.mode) == (0, "first", "bertqa*", "async_local")
    assert (first.keys.event_types, first.keys.commands, first.keys.key_types) == (
        ("keymiss",),
        ("get",),
        ("empty",),
    )
    assert [step.name for step in first.steps] == ["map", "map", "collect"]
    assert (second.ordinal, second.prefix, second.keys.event_types) == (1, "x", ())
    assert (first.keys.coalesce, second.keys.coalesce, second.keys.key_types) == (False, True, ("hash",))
    assert recorder.run is None


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: GearsBuilder("NoSuchReader"), "reader does not exists: 'NoSuchReader'"),
        (
            lambda: GearsBuilder("ShardsIDReader").register(),
            "register\\(\\) works with KeysReader, StreamReader, CommandReader",
        ),
        (lambda: GearsBuilder().register(mode="never"), "mode must be one of"),
        (lambda: GearsBuilder().register(eventTypes="keymiss"), "eventTypes must be a list"),
        (lambda: GearsBuilder().register(commands=["get,set"]), "without commas"),
        (lambda: GearsBuilder().register(onRegistered=5), "OnRegistered argument must be a function"),  # type: ignore[arg-type]
        (lambda: GearsBuilder().run(mode="sync"), "mode 'sync' is not supported"),
        (lambda: GearsBuilder("PythonReader").run(), "pyreader argument must be a function"),
        (lambda: [GearsBuilder().run(), GearsBuilder().run()], "more then 1 executions"),
    ],
)
def test_wrong_use_is_explained(context: JobContext, build: Callable[[], Any], text: str) -> None:
    token = CURRENT.set(JobContext(context.services, LEFT, recorder=recorder_of(True)))
    try:
        with pytest.raises(GearsError, match=text):
            build()
    finally:
        CURRENT.reset(token)


def test_register_in_a_step_is_refused(context: JobContext) -> None:
    token = CURRENT.set(context)
    try:
        with pytest.raises(GearsError, match="top level"):
            GearsBuilder().register()
    finally:
        CURRENT.reset(token)
    with pytest.raises(GearsError, match="no shard here"):
        GearsBuilder().run()


def test_a_builder_may_be_registered_again(context: JobContext) -> None:
    recorder = recorder_of(False)
    token = CURRENT.set(JobContext(context.services, LEFT, recorder=recorder))
    try:
        builder = GearsBuilder("StreamReader").map(str)
        assert [builder.register("a"), builder.register("b")] == ["id-0", "id-1"]
    finally:
        CURRENT.reset(token)
    first, second = recorder.registrations
    assert [step.name for step in first.steps] == [step.name for step in second.steps]
