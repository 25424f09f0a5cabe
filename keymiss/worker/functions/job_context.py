"""What a gears function runs in: which shard, which job, whether answers are cached.

A context variable carries it through threads that the worker starts and through coroutines, so the
same script can run for several shards at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from keymiss.logs import one_line

if TYPE_CHECKING:
    from keymiss.cluster.shard_connection import ShardConnection
    from keymiss.cluster.topology import Shard
    from keymiss.worker.functions.builder import Recorder
    from keymiss.worker.job import Job, Run
    from keymiss.worker.services import Services


MODELS_HOLD_S = 1.0
"""So long after the pull a shard's models are taken to be those of then."""


class GearsError(Exception):
    """A gears function used the API in a way that cannot work; the text says how."""


class FlatError(Exception):
    """Its text is told as it stands, without the error's name."""


def error_text(error: BaseException) -> str:
    """What is told of an error."""
    if isinstance(error, SyntaxError) and "invalid syntax" not in str(error):  # Python has many words for it
        return f"SyntaxError: invalid syntax: {one_line(error).partition(': ')[2]}"
    return str(error) if isinstance(error, FlatError) else one_line(error)


class Reply(Protocol):
    """What the clients that wait for missed keys are told."""

    def set(self, value: object, record: Any) -> None:
        """The reply of the record; None: of the only one. GearsError the second time."""

    def fail(self, error: object, record: Any) -> None:
        """The same, that it failed."""

    def with_commands(
        self,
        commands: Sequence[Sequence[Any]],
        values: Sequence[tuple[object, Any]],
        models: Sequence[tuple[str, int]],
    ) -> tuple[list[Any], list[bool]]:
        """Replies that count only while the models are of these versions, sent together with commands. Of a
        function that takes several misses."""


class ReplySlot:
    """Holds the reply that a function of one record chose with override_reply; it can be set once."""

    def __init__(self) -> None:
        self.is_set = False
        self.value: object = None

    def set(self, value: object, _record: Any = None) -> None:
        """GearsError the second time."""
        if self.is_set:
            raise GearsError("override_reply can be called once only")
        self.is_set, self.value = True, value

    def fail(self, error: object, _record: Any = None) -> None:
        """Raises it: the function ends."""
        raise error if isinstance(error, Exception) else GearsError(str(error))

    def with_commands(
        self, _commands: Sequence[Any], _values: Sequence[Any], _models: Sequence[Any]
    ) -> tuple[list[Any], list[bool]]:
        """It has no reply of its own before it ends."""
        raise GearsError("only a function that takes several misses sends replies with commands")


@dataclass(frozen=True)
class JobContext:
    """`recorder` is set while a script's top level runs, `reply` when a client waits for a key. `others`: the
    jobs that are done in the same run; of the same shard and registration."""

    services: Services
    shard: Shard
    job: Job | None = None
    cache: bool = True
    recorder: Recorder | None = None
    reply: Reply | None = None
    others: tuple[Job, ...] = ()
    loading: bool = False
    """True while a stored script is loaded: top-level execute() and run() do nothing then."""
    upload: str | None = None
    """Of a registered function: which upload's namespace it has."""
    hook: str | None = None
    """Of a function that runs in the place of a command: its registration."""

    @property
    def connection(self) -> ShardConnection:
        """The calling thread's connection to the shard."""
        return self.services.connections.get(self.shard)

    def ran_commands(self) -> None:
        """The function ran a command of its own."""
        if self.job is not None:
            self.job.ran_commands = True

    @property
    def models_epoch(self) -> int:
        """0 when it does not say any more which models the shard has."""
        job = self.job
        if job is None or self.shard != job.shard or job.ran_commands or job.waited_s > MODELS_HOLD_S:
            return 0
        return job.models_epoch

    def count_model_run(self, took_us: int) -> None:
        """A model ran for the job."""
        if self.job is not None:
            self.job.model_runs_us.append(took_us)

    @property
    def run(self) -> Run:
        """All jobs that are done together."""
        return () if self.job is None else (self.job, *self.others)

    @property
    def request_fields(self) -> dict[str, list[str]]:
        """What a log line has of the requests of all clients that wait."""
        ids = list(dict.fromkeys(id_ for job in self.run for id_ in job.request_ids))
        return {"request_ids": ids} if ids else {}

    def on(self, shard: Shard) -> JobContext:
        """The same job, on another shard."""
        return replace(self, shard=shard, recorder=None)


CURRENT: ContextVar[JobContext | None] = ContextVar("keymiss_job", default=None)


def current() -> JobContext:
    """The calling code's context. GearsError outside a function (a thread the script started)."""
    context = CURRENT.get()
    if context is None:
        raise GearsError("no shard here: this thread was not started by the worker")
    return context
