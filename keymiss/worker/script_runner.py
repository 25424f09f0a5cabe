"""Runs functions of TorchScript sources on the shards: compiled once a version, in a process of its own, as a
model is, with runners that run it. What a script asks for is done here."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError, ResponseError

from keymiss.cluster.shard_connection import ShardConnection, ThreadConnections
from keymiss.cluster.topology import Shard
from keymiss.pipeline.records import as_dict
from keymiss.reading.backends.base import ModelError
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.records import decode
from keymiss.worker.model_processes.asks import FunctionCall
from keymiss.worker.model_processes.libraries import Libraries, LoadedModel, NotNow
from keymiss.worker.model_processes.run_queue import ModelResult
from keymiss.worker.model_runner import ModelRunner
from keymiss.worker.script_run import ScriptRun

MAX_SCRIPTS = 32
"""Compiled ones, each with processes of its own; the least used goes."""

MAX_COMMANDS = 10_000
"""Remembered, of those that scripts have sent."""

REFUSED_FLAGS = frozenset((b"admin", b"noscript", b"blocking", b"pubsub"))
"""Of commands that a script must not send: what changes the server or the connection, and what waits."""

WAITS = ("AI.MODEL", "AI.SCRIPT", "AI.DAG", "AI._", "RG.", "KM.")
"""Commands that may wait for a worker, which the script takes part of."""


class ScriptRunner:
    """Safe to use from every thread."""

    def __init__(self, models: ModelRunner, libraries: Libraries, connections: ThreadConnections) -> None:
        self._models = models
        self._libraries = libraries
        self._connections = connections
        self._lock = threading.Lock()
        self._compiled: OrderedDict[tuple[str, str], tuple[int, LoadedModel | ModelError]] = OrderedDict()
        self._commands = _Commands()

    def look(self, source: bytes, entry_points: Sequence[str]) -> None:
        """ModelError if it does not compile, or an entry point is none."""
        self._libraries.compile(source, entry_points)

    def start(self, shard: Shard, connection: ShardConnection, run: ScriptRun) -> Future[ModelResult]:
        """Fetches and compiles the script if need be (blocking) and queues the run."""
        try:
            script = self._script(shard, connection, run.key)
        except ModelError:
            self._models.failed(connection, run.key)
            raise
        calls = _Calls(self, shard, run.read_only, copy_context())
        call = FunctionCall(run.function, run.keys, run.args, run.list_at, calls)
        return self._models.submit(script, run.inputs, call)

    def finish(
        self, connection: ShardConnection, run: ScriptRun, outcome: Future[ModelResult]
    ) -> ModelResult:
        """The result of a run that ended. ModelError if it failed or gave not as many tensors as asked."""
        return self._models.finish(connection, run.key, run.inputs, outcome, run.outputs, "script")

    def run(self, shard: Shard, connection: ShardConnection, run: ScriptRun) -> ModelResult:
        """`start`, wait, `finish`."""
        return self.finish(connection, run, self.start(shard, connection, run))

    def _script(self, shard: Shard, connection: ShardConnection, key: str) -> LoadedModel:
        try:
            info = as_dict(connection.command("KM.SCRIPTINFO", key))
        except ResponseError as error:
            raise ModelError(str(error)) from error
        place, version = (shard.identity, key), int(info[b"version"])
        with self._lock:
            known = self._compiled.get(place)
            if known is not None and known[0] == version and not getattr(known[1], "lost", False):
                self._compiled.move_to_end(place)
                return _or_raise(known[1])
        made: LoadedModel | ModelError
        try:
            made = self._libraries.compile(info[b"source"], [decode(name) for name in info[b"entry_points"]])
        except NotNow:
            raise
        except ModelError as error:
            made = error
        with self._lock:
            self._compiled[place] = version, made
            while len(self._compiled) > MAX_SCRIPTS:
                self._compiled.popitem(last=False)
        return _or_raise(made)

    def execute(self, shard: Shard, words: list[str]) -> Any:
        """A command of a script, on the shard. ModelError with the error reply."""
        connection = self._connections.get(shard)
        try:
            self._commands.check(connection, words)
            return _as_json(connection.command(*words))
        except (RedisError, OSError) as error:
            said = str(error)
            if "wrong number of arguments" in said or "unknown command" in said:
                said = f"Invalid argument: {said}"
            raise ModelError(f"Redis command returned an error: {said}") from error

    def run_model(self, shard: Shard, key: str, inputs: list[Tensor], outputs: int) -> list[Tensor]:
        """A model of a script."""
        connection = self._connections.get(shard)
        if connection.command("EXISTS", key) == 0:
            raise ModelError(f"redisAI.model_execute {key}: ERR model key is empty")
        try:
            return self._models.run(shard, connection, key, inputs, outputs).outputs
        finally:
            connection.send_posted()


def _or_raise(script: LoadedModel | ModelError) -> LoadedModel:
    if isinstance(script, ModelError):
        raise ModelError(str(script), script.reason)
    return script


def _as_json(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    if isinstance(reply, list):
        return [_as_json(one) for one in reply]
    if isinstance(reply, Exception):
        return str(reply)
    return reply


@dataclass(frozen=True)
class _Calls:
    runner: ScriptRunner
    shard: Shard
    read_only: bool
    context: Context
    """Of the job: a model of the script has its time."""

    def execute(self, words: list[str]) -> Any:
        if self.read_only:
            raise ModelError("redis.execute cannot be used in a read-only DAG")
        return self.runner.execute(self.shard, words)

    def run_model(self, key: str, inputs: list[Tensor], outputs: int) -> list[Tensor]:
        return self.context.run(self.runner.run_model, self.shard, key, inputs, outputs)


@dataclass
class _Commands:
    """Which commands a script may send: asked of the first shard that gets one."""

    _refused: dict[str, str | None] = field(default_factory=dict)

    def check(self, connection: ShardConnection, words: Sequence[str]) -> None:
        """ModelError if it may not."""
        name = "|".join(word.upper() for word in words[:2])
        if name not in self._refused:
            if len(self._refused) >= MAX_COMMANDS:
                self._refused.clear()
            self._refused[name] = self._why_not(connection, name)
        if reason := self._refused[name]:
            raise ModelError(f"redis.execute: {words[0].upper()} is refused: {reason}")

    @staticmethod
    def _why_not(connection: ShardConnection, name: str) -> str | None:
        """`name` with its first argument: that of a command like CONFIG is a command of its own."""
        if name.startswith(WAITS):
            return (
                "it may wait for the worker that runs the script; for models there is redisAI.model_execute"
            )
        infos = connection.command("COMMAND", "INFO", name.partition("|")[0], name)
        flags = {flag for info in infos if info for flag in info[2]}
        found = sorted(flag.decode() for flag in flags & REFUSED_FLAGS)
        return f"it is a command that is {', '.join(found)}" if found else None
