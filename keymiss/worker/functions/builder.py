"""`GearsBuilder`: a reader, steps, and `run` or `register` - the API of RedisGears 1.2.

A flow is a list of `Step`. Local steps turn an iterator of records into another, on each shard;
`collect` brings all records to the shard that started the run; `repartition` sends each to the shard
that serves its key's slot. All other steps are made of these. `execution` runs flows.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from keymiss.corpus.catchup import CATCHUP
from keymiss.worker.functions.event_loops import resolve
from keymiss.worker.functions.job_context import GearsError, current

Sink = Callable[[Exception], None]
"""Takes the error of one record; may raise it to end the flow."""

LocalFunction = Callable[[Iterator[Any], Sink], Iterator[Any]]

READERS = ("KeysReader", "KeysOnlyReader", "ShardsIDReader", "PythonReader", "StreamReader")
MODES = ("async", "async_local", "sync")
FAILED_POLICIES = ("continue", "abort", "retry")
MAX_STREAM_BATCH = 10_000
MAX_MISS_BATCH = 1000  # the module's


class StepKind(enum.Enum):
    """Where a step's records go."""

    LOCAL = "local"
    COLLECT = "collect"
    REPARTITION = "repartition"


@dataclass(frozen=True)
class Step:
    """`local` is set for LOCAL, `extractor` for REPARTITION."""

    kind: StepKind
    name: str
    local: LocalFunction | None = None
    extractor: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class StreamOptions:
    """How a StreamReader reads: at most `batch` records a run; `trim`: a record that was worked off is
    deleted. `on_failed`: one of FAILED_POLICIES."""

    batch: int = 1
    trim: bool = True
    on_failed: str = "continue"
    retry_s: float = 1.0


@dataclass(frozen=True)
class Registration:
    """One ``register()`` call. `ordinal` counts them within the script; empty tuples mean any."""

    ordinal: int
    reader: str
    desc: str
    mode: str
    prefix: str
    event_types: tuple[str, ...]
    key_types: tuple[str, ...]
    commands: tuple[str, ...]
    read_value: bool
    on_registered: Callable[[], Any] | None
    steps: tuple[Step, ...]
    stream: StreamOptions = StreamOptions()
    miss_batch: int = 1
    """Over 1: the flow's one record is a list of at most so many misses."""


@dataclass(frozen=True)
class Run:
    """One ``run()`` call; `local` keeps it on the shard that got the script."""

    reader: str
    arg: Any
    steps: tuple[Step, ...]
    local: bool
    no_scan: bool = False
    read_value: bool = True


@dataclass
class Recorder:
    """Takes down what a script's top level registers and runs."""

    keep_runs: bool
    registrations: list[Registration] = field(default_factory=list)
    run: Run | None = None

    def add_run(self, run: Run) -> None:
        """GearsError for a second run in one script."""
        if not self.keep_runs:
            return
        if self.run is not None:
            raise GearsError("Can not run more than 1 executions in a single script")
        self.run = run


def _recorder() -> Recorder:
    recorder = current().recorder
    if recorder is None:
        raise GearsError("run() and register() work at the top level of a script only")
    return recorder


def _each(function: Callable[[Any], Iterable[Any]]) -> LocalFunction:
    """Lifts a function of one record that gives any number of records; an error drops its record."""

    def local(records: Iterator[Any], sink: Sink) -> Iterator[Any]:
        for record in records:
            try:
                results = list(function(record))
            except Exception as error:
                sink(error)
                continue
            yield from results

    return local


def _fold(function: Callable[[Any, Any], Any], zero: Callable[[], Any]) -> LocalFunction:
    def local(records: Iterator[Any], sink: Sink) -> Iterator[Any]:
        accumulated, empty = zero(), True
        for record in records:
            try:
                accumulated = resolve(function(accumulated, record))
                empty = False
            except Exception as error:
                sink(error)
        if not empty:
            yield accumulated

    return local


def _fold_by(
    extractor: Callable[[Any], Any], reducer: Callable[[Any, Any, Any], Any], zero: Callable[[], Any]
) -> LocalFunction:
    def local(records: Iterator[Any], sink: Sink) -> Iterator[Any]:
        groups: dict[Any, Any] = {}
        for record in records:
            try:
                key = resolve(extractor(record))
                groups[key] = resolve(reducer(key, groups[key] if key in groups else zero(), record))
            except Exception as error:
                sink(error)
        for key, value in groups.items():
            yield {"key": key, "value": value}

    return local


def _nothing() -> None:
    return None


def _as_list(value: Any) -> list[Any]:
    result = resolve(value)
    return list(result) if isinstance(result, (list, tuple, set, frozenset)) else [result]


def _names(name: str, value: Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, (str, bytes)):
        raise GearsError(f"{name} must be a list of strings, not one string")
    names = tuple(value)
    for entry in names:
        if not isinstance(entry, str) or not entry or "," in entry:
            raise GearsError(f"{name} must be a list of non-empty strings without commas, got {entry!r}")
    return names


class GearsBuilder:
    """Builds a flow step by step; every step returns the builder."""

    def __init__(self, reader: str = "KeysReader", defaultArg: Any = "*", desc: str | None = None) -> None:
        if reader not in READERS:
            raise GearsError(f"reader {reader!r} is not supported; there are {', '.join(READERS)}")
        self._reader = reader
        self._default_arg = defaultArg
        self._desc = desc or ""
        self._steps: list[Step] = []

    def _local(self, name: str, function: LocalFunction) -> GearsBuilder:
        self._steps.append(Step(StepKind.LOCAL, name, local=function))
        return self

    def map(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """One record in, one out. The function may be a coroutine function, as in all steps."""
        return self._local("map", _each(lambda record: (resolve(function(record)),)))

    def flatmap(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """A list becomes its elements; any other result is one record."""
        return self._local("flatmap", _each(lambda record: _as_list(function(record))))

    def foreach(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """Calls the function for its effect; the record goes on unchanged."""

        def call(record: Any) -> tuple[Any]:
            resolve(function(record))
            return (record,)

        return self._local("foreach", _each(call))

    def filter(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """Keeps the records for which the function is true."""
        return self._local("filter", _each(lambda record: (record,) if resolve(function(record)) else ()))

    def accumulate(self, function: Callable[[Any, Any], Any]) -> GearsBuilder:
        """Folds the records of each shard: ``function(accumulator, record)``; None at first. No
        records, no result."""
        return self._local("accumulate", _fold(function, _nothing))

    def localgroupby(
        self, extractor: Callable[[Any], Any], reducer: Callable[[Any, Any, Any], Any]
    ) -> GearsBuilder:
        """Folds per key on each shard: ``reducer(key, accumulator, record)``; gives records
        ``{'key', 'value'}``."""
        return self._local("localgroupby", _fold_by(extractor, reducer, _nothing))

    def collect(self) -> GearsBuilder:
        """Brings all records to the shard that started the run."""
        self._steps.append(Step(StepKind.COLLECT, "collect"))
        return self

    def repartition(self, extractor: Callable[[Any], Any]) -> GearsBuilder:
        """Sends every record to the shard that serves the slot of ``str(extractor(record))``."""
        self._steps.append(Step(StepKind.REPARTITION, "repartition", extractor=extractor))
        return self

    def groupby(
        self, extractor: Callable[[Any], Any], reducer: Callable[[Any, Any, Any], Any]
    ) -> GearsBuilder:
        """`localgroupby` over the whole cluster."""
        return self.repartition(extractor).localgroupby(extractor, reducer)

    def batchgroupby(
        self, extractor: Callable[[Any], Any], reducer: Callable[[Any, list[Any]], Any]
    ) -> GearsBuilder:
        """Like `groupby`, with ``reducer(key, [records])`` called once a key."""

        def gather(_key: Any, records: list[Any] | None, record: Any) -> list[Any]:
            return [*(records or []), record]

        self.groupby(extractor, gather)
        return self.map(lambda r: {"key": r["key"], "value": resolve(reducer(r["key"], r["value"]))})

    def aggregate(
        self, zero: Any, seqOp: Callable[[Any, Any], Any], combOp: Callable[[Any, Any], Any]
    ) -> GearsBuilder:
        """`seqOp` folds on each shard, `combOp` folds the shards' results; both start from a copy of
        `zero`."""
        self._local("aggregate", _fold(seqOp, lambda: copy.deepcopy(zero)))
        self.collect()
        return self._local("aggregate", _fold(combOp, lambda: copy.deepcopy(zero)))

    def aggregateby(
        self,
        extractor: Callable[[Any], Any],
        zero: Any,
        seqOp: Callable[[Any, Any, Any], Any],
        combOp: Callable[[Any, Any, Any], Any],
    ) -> GearsBuilder:
        """`aggregate` per key; both operations get the key first. Gives ``{'key', 'value'}``."""
        self._local("aggregateby", _fold_by(extractor, seqOp, lambda: copy.deepcopy(zero)))
        self.repartition(lambda r: r["key"])
        return self._local(
            "aggregateby",
            _fold_by(
                lambda r: r["key"],
                lambda key, acc, r: combOp(key, acc, r["value"]),
                lambda: copy.deepcopy(zero),
            ),
        )

    def count(self) -> GearsBuilder:
        """The number of records in the whole cluster; no records, no result."""
        return self.aggregate(0, lambda total, _: total + 1, lambda total, part: total + part)

    def countby(self, extractor: Callable[[Any], Any] = lambda record: record) -> GearsBuilder:
        """How often each key occurs, as ``{'key', 'value'}``."""
        return self.aggregateby(
            extractor, 0, lambda _, total, __: total + 1, lambda _, total, part: total + part
        )

    def avg(self, extractor: Callable[[Any], float] = float) -> GearsBuilder:
        """The mean over the cluster."""
        self.map(extractor)
        self.aggregate((0, 0), lambda a, r: (a[0] + r, a[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1]))
        return self.map(lambda pair: pair[0] / pair[1])

    def sort(self, reverse: bool = True) -> GearsBuilder:
        """All records, sorted; descending unless `reverse` is False, as in RedisGears."""
        self.aggregate([], lambda records, record: [*records, record], lambda left, right: left + right)
        return self.flatmap(lambda records: sorted(records, reverse=reverse))

    def distinct(self) -> GearsBuilder:
        """Each (hashable) record once."""
        self.aggregate(set(), lambda seen, record: seen | {record}, lambda left, right: left | right)
        return self.flatmap(list)

    def limit(self, length: int, start: int = 0) -> GearsBuilder:
        """Records number `start` to `start + length` of the cluster's."""

        def first(count: int, skip: int) -> LocalFunction:
            def local(records: Iterator[Any], _sink: Sink) -> Iterator[Any]:
                for number, record in enumerate(records):
                    if number >= skip + count:
                        return
                    if number >= skip:
                        yield record

            return local

        self._local("limit", first(start + length, 0))
        self.collect()
        return self._local("limit", first(length, start))

    flatMap = flatmap
    forEach = foreach
    forEeach = foreach

    def _finished(self, convert_to_str: bool, collect: bool) -> tuple[Step, ...]:
        if convert_to_str:
            self.map(str)
        if collect:
            self.collect()
        return tuple(self._steps)

    def run(
        self,
        arg: Any = None,
        convertToStr: bool = True,
        collect: bool = True,
        mode: str = "async",
        noScan: bool = False,
        readValue: bool = True,
        **_ignored: Any,
    ) -> None:
        """Runs the flow once the script's top level has ended. `arg` is what the reader reads."""
        recorder = _recorder()
        if mode not in ("async", "async_local"):
            raise GearsError(f"mode {mode!r} is not supported by run(); use 'async' or 'async_local'")
        steps = self._finished(convertToStr, collect)
        chosen = self._default_arg if arg is None else arg
        if self._reader == "StreamReader":
            raise GearsError(
                "StreamReader works with register(), not with run(): read the stream by execute()"
            )
        if self._reader == "PythonReader" and not callable(chosen):
            raise GearsError("PythonReader needs a generator function: run(function)")
        recorder.add_run(Run(self._reader, chosen, steps, mode == "async_local", noScan, readValue))

    def register(
        self,
        prefix: str = "*",
        convertToStr: bool = True,
        collect: bool = True,
        mode: str = "async",
        onRegistered: Callable[[], Any] | None = None,
        eventTypes: Iterable[str] | None = None,
        keyTypes: Iterable[str] | None = None,
        commands: Iterable[str] | None = None,
        readValue: bool = True,
        regex: str | None = None,
        batch: int = 1,
        onFailedPolicy: str = "continue",
        onFailedRetryInterval: float = 1,
        trimStream: bool = True,
        missBatch: int | None = None,
        **_ignored: Any,
    ) -> None:
        """Registers the flow for keys that start with `prefix` (a trailing ``*`` is dropped). The arguments
        from `batch` to `trimStream` are a StreamReader's, whose events and key types are given. `missBatch`:
        the flow answers misses, and gets at most so many at once, as one record that is a list."""
        recorder = _recorder()
        stream = StreamOptions()
        if self._reader == "StreamReader":
            stream = _stream_options(batch, onFailedPolicy, onFailedRetryInterval, trimStream)
            eventTypes, keyTypes = ("xadd", CATCHUP), ("stream",)
        elif self._reader != "KeysReader":
            raise GearsError(f"register() works with KeysReader and StreamReader, not with {self._reader}")
        if mode not in MODES:
            raise GearsError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if onRegistered is not None and not callable(onRegistered):
            raise GearsError("onRegistered must be a function")
        types = _names("eventTypes", eventTypes)
        miss_batch = 1 if missBatch is None else _miss_batch(missBatch, types)
        steps = self._finished(convertToStr, collect)
        recorder.registrations.append(
            Registration(
                ordinal=len(recorder.registrations),
                reader=self._reader,
                desc=self._desc,
                mode=mode,
                prefix=regex if regex is not None else prefix,
                event_types=types,
                key_types=_names("keyTypes", keyTypes),
                commands=tuple(name.lower() for name in _names("commands", commands)),
                read_value=readValue,
                on_registered=onRegistered,
                steps=steps,
                stream=stream,
                miss_batch=miss_batch,
            )
        )


def _miss_batch(batch: Any, event_types: tuple[str, ...]) -> int:
    if "keymiss" not in event_types:
        raise GearsError("missBatch is for functions that answer misses: eventTypes=['keymiss']")
    if isinstance(batch, bool) or not isinstance(batch, int) or not 2 <= batch <= MAX_MISS_BATCH:
        raise GearsError(f"missBatch must be a whole number from 2 to {MAX_MISS_BATCH}, not {batch!r}")
    return batch


def _stream_options(batch: Any, policy: Any, retry_s: Any, trim: Any) -> StreamOptions:
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_STREAM_BATCH:
        raise GearsError(f"batch must be a whole number from 1 to {MAX_STREAM_BATCH}, not {batch!r}")
    if policy not in FAILED_POLICIES:
        raise GearsError(f"onFailedPolicy must be one of {', '.join(FAILED_POLICIES)}, not {policy!r}")
    if isinstance(retry_s, bool) or not isinstance(retry_s, int | float) or not 0 < retry_s <= 3600:
        raise GearsError(f"onFailedRetryInterval must be seconds over 0 and at most 3600, not {retry_s!r}")
    return StreamOptions(batch, bool(trim), policy, float(retry_s))
