"""`GearsBuilder`: a reader, steps, and `run` or `register` - the API of RedisGears 1.2.

A flow is a list of `Step`. Local steps turn an iterator of records into another, on each shard;
`collect` brings all records to the shard that started the run; `repartition` sends each to the shard
that serves its key's slot. All other steps are made of these. `execution` runs flows.
"""

from __future__ import annotations

import copy
import enum
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keymiss.corpus.catchup import CATCHUP
from keymiss.worker.functions import arguments
from keymiss.worker.functions.arguments import counted
from keymiss.worker.functions.event_loops import at_once, resolve
from keymiss.worker.functions.hooked_commands import hooked_args
from keymiss.worker.functions.job_context import GearsError, current

Sink = Callable[[Exception], None]
"""Takes the error of one record; may raise it to end the flow."""

LocalFunction = Callable[[Iterator[Any], Sink], Iterator[Any]]

READERS = (
    "KeysReader",
    "KeysOnlyReader",
    "ShardsIDReader",
    "PythonReader",
    "StreamReader",
    "CommandReader",
)
RUN_OPTIONS = {
    "StreamReader": ("fromId",),
    "KeysReader": ("noScan", "readValue"),
    "KeysOnlyReader": ("noScan", "count", "patternGenerator"),
}
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
    extractor: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class StreamOptions:
    """How a StreamReader reads: at most `batch` records a run; `trim`: a record that was worked off is
    deleted. `on_failed`: one of FAILED_POLICIES. `duration_ms`: so long a record waits for a full batch."""

    batch: int = 1
    trim: bool = True
    on_failed: str = "continue"
    retry_s: float = 1.0
    duration_ms: int = 0

    @property
    def told(self) -> Mapping[str, int]:
        """What the module is told: how it shows the registration, and that it stops after a failure."""
        return {
            "batchSize": self.batch,
            "durationMS": self.duration_ms,
            "trimStream": int(self.trim),
            "retryInterval": math.ceil(self.retry_s),
            "stopsOnFailure": int(self.on_failed == "abort"),
            "retries": int(self.on_failed == "retry"),
        }


@dataclass(frozen=True)
class KeysOptions:
    """What triggers a registration; empty tuples mean any. `miss_batch` over 1: the flow's one record is a
    list of at most so many misses. `coalesce`, of events: the same one of a key that waits already runs once,
    and those of different keys run at once; else each runs, one after the other."""

    event_types: tuple[str, ...] = ()
    key_types: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    read_value: bool = True
    miss_batch: int = 1
    coalesce: bool = False


@dataclass(frozen=True)
class Registration:
    """One ``register()`` call, or time event. `ordinal` counts them within the script. `trigger`: a
    CommandReader's; `hook`: the command that it runs in the place of. `told`: what else the module needs."""

    id: str
    upload: str
    ordinal: int
    reader: str
    desc: str
    mode: str
    prefix: str
    on_registered: Callable[[], Any] | None
    steps: tuple[Step, ...]
    keys: KeysOptions = KeysOptions()
    stream: StreamOptions = StreamOptions()
    trigger: str = ""
    hook: str = ""
    told: Mapping[str, int] = field(default_factory=dict)
    callback: Callable[..., Any] | None = None
    session: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that are hooked."""
        return (self.hook,) if self.hook else self.keys.commands


@dataclass(frozen=True)
class Run:
    """One ``run()`` call; `local` keeps it on the shard that got the script. `options`: the reader's."""

    reader: str
    arg: Any
    steps: tuple[Step, ...]
    local: bool
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Registered:
    """A registration that is there already."""

    id: str
    mode: str
    trigger: str
    commands: tuple[str, ...]


@dataclass
class Recorder:
    """Takes down what a script's top level registers and runs. `new_id` gives the id of the registration with
    an ordinal; `there`: those that stay beside the script's, the newest first; None: a stored script is
    loaded, and all was checked."""

    upload: str
    keep_runs: bool
    new_id: Callable[[int], str]
    session: str = ""
    there: Sequence[Registered] | None = None
    registrations: list[Registration] = field(default_factory=list)
    run: Run | None = None

    def add_run(self, run: Run) -> None:
        """GearsError for a second run in one script."""
        if not self.keep_runs:
            return
        if self.run is not None:
            raise GearsError("Can not run more then 1 executions in a single script")
        self.run = run

    def add(self, make: Callable[[str, int], Registration]) -> str:
        """`make` gets the id and the ordinal. Returns the id."""
        ordinal = len(self.registrations)
        registration = make(self.new_id(ordinal), ordinal)
        if self.there is not None:
            self._check(registration, self.there)
        self.registrations.append(registration)
        return registration.id

    def _check(self, new: Registration, there: Sequence[Registered]) -> None:
        if new.trigger and any(one.trigger == new.trigger for one in there):
            raise GearsError(
                f"trigger already registered: {new.trigger!r} (RG.UNREGISTER, or ID and UPGRADE)"
            )
        if new.trigger and any(one.trigger == new.trigger for one in self.registrations):
            raise GearsError(f"trigger already registered in this session: {new.trigger!r}")
        if not new.hook:
            return
        older = next((one for one in there if new.hook in one.commands), None)
        if older is not None and older.mode != "sync":
            raise GearsError(f"Can not override a none sync registration: {older.id} hooks {new.hook}")
        if any(one.hook == new.hook and one.mode != "sync" for one in self.registrations):
            raise GearsError(
                "Can not override a none sync registration which already created on this session: it hooks "
                f"{new.hook}"
            )


def _recorder(what: str) -> Recorder:
    recorder = current().recorder
    if recorder is None:
        raise GearsError(f"{what}() works at the top level of a script only")
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
    extractor: Callable[[Any], str], reducer: Callable[[Any, Any, Any], Any], zero: Callable[[], Any]
) -> LocalFunction:
    def local(records: Iterator[Any], sink: Sink) -> Iterator[Any]:
        groups: dict[str, Any] = {}
        for record in records:
            try:
                key = extractor(record)
                groups[key] = resolve(reducer(key, groups[key] if key in groups else zero(), record))
            except Exception as error:
                sink(error)
        for key, value in groups.items():
            yield {"key": key, "value": value}

    return local


def _nothing() -> None:
    return None


def _from_the_last(value: Any) -> list[Any]:
    result = resolve(value)
    return result[::-1] if isinstance(result, list) else [result]


def _as_key(extractor: Callable[[Any], Any]) -> Callable[[Any], str]:
    """Keys are text, as in RedisGears: that of a number or a tuple is how Python writes it."""

    def key(record: Any) -> str:
        result = at_once(extractor(record), "extractor")
        return result if isinstance(result, str) else repr(result)

    return key


class GearsBuilder:
    """Builds a flow step by step; every step returns the builder."""

    def __init__(self, reader: str = "KeysReader", defaultArg: Any = "*", desc: str | None = None) -> None:
        arguments.text("reader", reader)
        if reader not in READERS:
            raise GearsError(f"reader does not exists: {reader!r}; there are {', '.join(READERS)}")
        if desc is not None:
            arguments.text("desc", desc)
        self._reader = reader
        self._default_arg = defaultArg
        self._desc = desc or ""
        self._steps: list[Step] = []

    def _local(self, name: str, function: LocalFunction) -> GearsBuilder:
        self._steps.append(Step(StepKind.LOCAL, name, local=function))
        return self

    @counted
    def map(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """One record in, one out. The function may be a coroutine function, as in all steps."""
        arguments.function("map", function)
        return self._local("map", _each(lambda record: (resolve(function(record)),)))

    @counted
    def flatmap(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """A list becomes its elements, the last one first, as in RedisGears; other results are one record."""
        arguments.function("flatmap", function)
        return self._local("flatmap", _each(lambda record: _from_the_last(function(record))))

    @counted
    def foreach(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """Calls the function for its effect; the record goes on unchanged."""
        arguments.function("foreach", function)

        def call(record: Any) -> tuple[Any]:
            resolve(function(record))
            return (record,)

        return self._local("foreach", _each(call))

    @counted
    def filter(self, function: Callable[[Any], Any]) -> GearsBuilder:
        """Keeps the records for which the function is true."""
        arguments.function("filter", function)
        return self._local("filter", _each(lambda record: (record,) if resolve(function(record)) else ()))

    @counted
    def accumulate(self, function: Callable[[Any, Any], Any]) -> GearsBuilder:
        """Folds the records of each shard: ``function(accumulator, record)``; None at first. No
        records, no result."""
        arguments.function("accumulate", function)
        return self._local("accumulate", _fold(function, _nothing))

    @counted
    def localgroupby(
        self, extractor: Callable[[Any], Any], reducer: Callable[[Any, Any, Any], Any]
    ) -> GearsBuilder:
        """Folds per key on each shard: ``reducer(key, accumulator, record)``; gives records
        ``{'key', 'value'}``, the key as text."""
        arguments.function("groupby extractor", extractor)
        arguments.function("groupby reducer", reducer)
        return self._local("localgroupby", _fold_by(_as_key(extractor), reducer, _nothing))

    @counted
    def collect(self) -> GearsBuilder:
        """Brings all records to the shard that started the run."""
        self._steps.append(Step(StepKind.COLLECT, "collect"))
        return self

    @counted
    def repartition(self, extractor: Callable[[Any], Any]) -> GearsBuilder:
        """Sends every record to the shard that serves the slot of ``extractor(record)``, as text."""
        arguments.function("repartition", extractor)
        self._steps.append(Step(StepKind.REPARTITION, "repartition", extractor=_as_key(extractor)))
        return self

    @counted
    def groupby(
        self, extractor: Callable[[Any], Any], reducer: Callable[[Any, Any, Any], Any]
    ) -> GearsBuilder:
        """`localgroupby` over the whole cluster."""
        arguments.function("groupby extractor", extractor)
        return self.repartition(extractor).localgroupby(extractor, reducer)

    @counted
    def batchgroupby(
        self, extractor: Callable[[Any], Any], reducer: Callable[[Any, list[Any]], Any]
    ) -> GearsBuilder:
        """Like `groupby`, with ``reducer(key, [records])`` called once a key."""
        arguments.function("batchgroupby extractor", extractor)
        arguments.function("batchgroupby reducer", reducer)

        def gather(_key: Any, records: list[Any] | None, record: Any) -> list[Any]:
            return [*(records or []), record]

        self.groupby(extractor, gather)
        return self.map(
            lambda r: {"key": r["key"], "value": at_once(reducer(r["key"], r["value"]), "reduce")}
        )

    @counted
    def aggregate(
        self, zero: Any, seqOp: Callable[[Any, Any], Any], combOp: Callable[[Any, Any], Any]
    ) -> GearsBuilder:
        """`seqOp` folds on each shard, `combOp` folds the shards' results; both start from a copy of
        `zero`."""
        arguments.function("aggregate seqOp", seqOp)
        arguments.function("aggregate combOp", combOp)
        self._local("aggregate", _fold(seqOp, lambda: copy.deepcopy(zero)))
        self.collect()
        return self._local("aggregate", _fold(combOp, lambda: copy.deepcopy(zero)))

    @counted
    def aggregateby(
        self,
        extractor: Callable[[Any], Any],
        zero: Any,
        seqOp: Callable[[Any, Any, Any], Any],
        combOp: Callable[[Any, Any, Any], Any],
    ) -> GearsBuilder:
        """`aggregate` per key; both operations get the key first. Gives ``{'key', 'value'}``."""
        arguments.function("aggregateby extractor", extractor)
        arguments.function("aggregateby seqOp", seqOp)
        arguments.function("aggregateby combOp", combOp)
        self._local("aggregateby", _fold_by(_as_key(extractor), seqOp, lambda: copy.deepcopy(zero)))
        self.repartition(lambda r: r["key"])
        return self._local(
            "aggregateby",
            _fold_by(
                lambda r: r["key"],
                lambda key, acc, r: combOp(key, acc, r["value"]),
                lambda: copy.deepcopy(zero),
            ),
        )

    @counted
    def count(self) -> GearsBuilder:
        """The number of records in the whole cluster; no records, no result."""
        return self.aggregate(0, lambda total, _: total + 1, lambda total, part: total + part)

    @counted
    def countby(self, extractor: Callable[[Any], Any] = lambda record: record) -> GearsBuilder:
        """How often each key occurs, as ``{'key', 'value'}``."""
        return self.aggregateby(
            extractor, 0, lambda _, total, __: total + 1, lambda _, total, part: total + part
        )

    @counted
    def avg(self, extractor: Callable[[Any], float] = float) -> GearsBuilder:
        """The mean over the cluster."""
        self.map(extractor)
        self.aggregate((0, 0), lambda a, r: (a[0] + r, a[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1]))
        return self.map(lambda pair: pair[0] / pair[1])

    @counted
    def sort(self, reverse: bool = True) -> GearsBuilder:
        """All records, sorted. As in RedisGears they come out from the last to the first: ascending, unless
        `reverse` is False."""
        self.aggregate([], lambda records, record: [*records, record], lambda left, right: left + right)
        return self.flatmap(lambda records: sorted(records, reverse=reverse))

    @counted
    def distinct(self) -> GearsBuilder:
        """Each (hashable) record once."""
        self.aggregate(set(), lambda seen, record: seen | {record}, lambda left, right: left | right)
        return self.flatmap(list)

    @counted
    def limit(self, length: int, start: int = 0) -> GearsBuilder:
        """Records number `start` to `start + length` of the cluster's."""
        arguments.number("limit", length)
        arguments.number("limit", start)

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

    @counted
    def localAggregateby(
        self, extractor: Callable[[Any], Any], zero: Any, aggregator: Callable[[Any, Any, Any], Any]
    ) -> GearsBuilder:
        """`localgroupby` that starts from a copy of `zero`; also called ``__localAggregateby__``."""
        arguments.function("aggregateby extractor", extractor)
        arguments.function("aggregateby aggregator", aggregator)
        return self._local(
            "aggregateby", _fold_by(_as_key(extractor), aggregator, lambda: copy.deepcopy(zero))
        )

    __localAggregateby__ = localAggregateby

    def _finished(self, convert_to_str: bool, collect: bool) -> tuple[Step, ...]:
        """A copy: a builder may be run or registered again."""
        finished = GearsBuilder(self._reader)
        finished._steps = list(self._steps)
        if convert_to_str:
            finished.map(str)
        if collect:
            finished.collect()
        return tuple(finished._steps)

    @counted
    def run(
        self,
        arg: Any = None,
        convertToStr: bool = True,
        collect: bool = True,
        mode: str = "async",
        **options: Any,
    ) -> Any:
        """Runs the flow: once the script's top level has ended, or, in a function, at once. There it gives
        what can be awaited: the results and the errors. `arg` is what the reader reads, `options` are the
        reader's own: RUN_OPTIONS."""
        context = current()
        arguments.text("execution mode", mode)
        if mode not in ("async", "async_local"):
            raise GearsError(f"mode {mode!r} is not supported by run(); use 'async' or 'async_local'")
        if self._reader == "CommandReader":
            raise GearsError(
                "Given reader do not support run or not exists: CommandReader works with register()"
            )
        arguments.known(f"run() of {self._reader}", options, RUN_OPTIONS.get(self._reader, ()))
        for name in ("noScan", "readValue"):
            arguments.truth(name, options.get(name, False))
        arguments.text("fromId", options.get("fromId", "0-0"))
        chosen = arg or self._default_arg
        if self._reader == "PythonReader":
            arguments.function("pyreader", chosen)
        elif self._reader in ("KeysReader", "StreamReader"):
            arguments.text("regex", chosen)
        run = Run(self._reader, chosen, self._finished(convertToStr, collect), mode == "async_local", options)
        if context.recorder is None:
            return context.services.start(context, run)
        context.recorder.add_run(run)
        return None

    @counted
    def register(
        self,
        prefix: str = "*",
        convertToStr: bool = True,
        collect: bool = True,
        mode: str = "async",
        onRegistered: Callable[[], Any] | None = None,
        regex: str | None = None,
        **options: Any,
    ) -> str:
        """Registers the flow for keys that start with `prefix` (a trailing ``*`` is dropped). `options` are
        those of `_keys_options`, `_stream_options` or `_command_options`. Returns the registration's id."""
        recorder = _recorder("register")
        prefix = prefix if regex is None else regex
        arguments.text("regex", prefix)
        arguments.text("execution mode", mode)
        if mode not in MODES:
            raise GearsError(f"unknown execution mode {mode!r}: mode must be one of {', '.join(MODES)}")
        if onRegistered is not None:
            arguments.function("OnRegistered", onRegistered)
        reader_options = _OPTIONS.get(self._reader)
        if reader_options is None:
            raise GearsError(
                f"given reader does not exists or does not support register: {self._reader}; "
                f"register() works with {', '.join(_OPTIONS)}"
            )
        arguments.known(
            f"register() of {self._reader}", options, inspect.signature(reader_options).parameters
        )
        chosen = reader_options(recorder, mode, prefix, **options)
        steps = self._finished(convertToStr, collect)
        return recorder.add(
            lambda id_, ordinal: Registration(
                id=id_,
                upload=recorder.upload,
                session=recorder.session,
                ordinal=ordinal,
                reader=self._reader,
                desc=self._desc,
                mode=mode,
                on_registered=onRegistered,
                steps=steps,
                **{"prefix": prefix, **chosen},
            )
        )


def _keys_options(
    recorder: Recorder,
    mode: str,
    prefix: str,
    /,
    *,
    eventTypes: Any = None,
    keyTypes: Any = None,
    commands: Any = None,
    readValue: bool = True,
    missBatch: int | None = None,
    coalesce: bool = False,
) -> dict[str, Any]:
    event_types = tuple(name.lower() for name in arguments.names("eventTypes", "event", eventTypes))
    key_types = arguments.names("keyTypes", "key", keyTypes)
    hooked = tuple(name.lower() for name in arguments.names("commands", "command", commands))
    arguments.what_triggers(event_types, key_types, hooked, mode)
    arguments.truth("readValue", readValue)
    arguments.truth("coalesce", coalesce)
    if coalesce and arguments.MISS in event_types:
        raise GearsError("coalesce is for events; clients who miss one key share one run in any case")
    batch = 1 if missBatch is None else _miss_batch(missBatch, event_types)
    keys = KeysOptions(event_types, key_types, hooked, readValue, batch, coalesce)
    told: dict[str, int] = {}
    if hooked and arguments.MISS not in event_types and recorder.there is not None:
        for name in hooked:
            if hooked_args(current().connection, name, "any", "hook")["reads"]:
                raise GearsError(f"Can not hook a command that changes nothing: {name!r} causes no event")
    return {"keys": keys, "told": told}


def _miss_batch(batch: Any, event_types: tuple[str, ...]) -> int:
    if "keymiss" not in event_types:
        raise GearsError("missBatch is for functions that answer misses: eventTypes=['keymiss']")
    if isinstance(batch, bool) or not isinstance(batch, int) or not 2 <= batch <= MAX_MISS_BATCH:
        raise GearsError(f"missBatch must be a whole number from 2 to {MAX_MISS_BATCH}, not {batch!r}")
    return batch


def _stream_options(
    _recorder: Recorder,
    mode: str,
    _prefix: str,
    /,
    *,
    batch: Any = 1,
    duration: Any = 0,
    onFailedPolicy: Any = "continue",
    onFailedRetryInterval: Any = 1,
    trimStream: Any = True,
) -> dict[str, Any]:
    if mode == "sync":
        raise GearsError("mode 'sync' is not supported for streams: use 'async_local'")
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_STREAM_BATCH:
        raise GearsError(f"batch must be a whole number from 1 to {MAX_STREAM_BATCH}, not {batch!r}")
    arguments.number("duration", duration)
    policy = onFailedPolicy.lower() if isinstance(onFailedPolicy, str) else onFailedPolicy
    if policy not in FAILED_POLICIES:
        raise GearsError(f"onFailedPolicy must be one of {', '.join(FAILED_POLICIES)}, not {policy!r}")
    retry_s = onFailedRetryInterval
    if isinstance(retry_s, bool) or not isinstance(retry_s, int | float) or not 0 < retry_s <= 3600:
        raise GearsError(f"onFailedRetryInterval must be seconds over 0 and at most 3600, not {retry_s!r}")
    arguments.truth("trimStream", trimStream)
    stream = StreamOptions(batch, trimStream, policy, float(retry_s), duration)
    keys = KeysOptions(event_types=("xadd", CATCHUP), key_types=("stream",), coalesce=True)
    return {"keys": keys, "stream": stream, "told": stream.told}


def _command_options(
    recorder: Recorder,
    mode: str,
    _prefix: str,
    /,
    *,
    trigger: Any = None,
    hook: Any = None,
    keyprefix: Any = None,
    inorder: Any = False,
) -> dict[str, Any]:
    """`trigger`: for RG.TRIGGER; `hook`: a command that the flow runs in the place of, if a key of it begins
    with `keyprefix`."""
    for name, value in (("trigger", trigger), ("hook", hook), ("keyprefix", keyprefix)):
        if value is not None and (not isinstance(value, str) or not value or "," in value):
            raise GearsError(
                f"{name} argument is not string (one that is not empty, without commas): {value!r}"
            )
    arguments.truth("inorder", inorder)
    if inorder:
        raise GearsError("inorder is not supported: triggers of different clients run at once; leave it out")
    if trigger is not None and (hook is not None or keyprefix is not None):
        raise GearsError("trigger argument can not be given with keyprefix or hook")
    if trigger is not None:
        return {"prefix": "", "trigger": trigger}
    if hook is None:
        raise GearsError("no trigger or hook argument was given")
    told: Mapping[str, int] = {}
    key_prefix = keyprefix or ""
    if recorder.there is not None:
        told = hooked_args(current().connection, hook.lower(), key_prefix)
    return {"prefix": key_prefix, "hook": hook.lower(), "told": told}


_OPTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "KeysReader": _keys_options,
    "StreamReader": _stream_options,
    "CommandReader": _command_options,
}
