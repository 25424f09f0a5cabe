"""What was computed and could not be kept: counted, and logged once in a while. It is given all the same.

For gears functions:

    from keymiss.worker.not_kept import keeping

    with keeping("answer"):
        execute("SET", key, answer)
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from redis import exceptions
from redis.exceptions import RedisError

from keymiss.logs import log_event, one_line
from keymiss.pipeline.model_version import ModelVersion
from keymiss.worker.functions.gears_api import execute_together, reply_together
from keymiss.worker.functions.job_context import current

LOG_AGAIN_S = 600.0
"""A shard that refuses refuses every answer: one line of each kind and reason in so long."""


class Kept(enum.StrEnum):
    """What may fail to be kept, and what that costs."""

    ANSWER = "answer"
    """It is computed again for the next client that asks."""
    VECTOR = "vector"
    """A question's: the same."""
    TENSOR = "tensor"
    """The sentence is tokenized again at the next question."""
    STATES = "states"
    """Those of a sentence or of a question are made again at the next one."""
    MODEL_DIGEST = "model_digest"
    """Answers are not recognised as this model's until it is kept; tried again at the next run."""
    STATISTICS = "statistics"
    """AI.INFO lacks a run."""


_BY_TYPE: dict[type[Exception], str] = {
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.ConnectionError: "connection",
    exceptions.TimeoutError: "connection",
    OSError: "connection",
}
_WORDS = ("MISCONF", "NOREPLICAS", "WRONGTYPE")
OTHER = "other"
REASONS = tuple(dict.fromkeys((*_BY_TYPE.values(), *_WORDS, OTHER)))


def reason_of(error: Exception) -> str:
    """The word the server refused with, one of `REASONS`. (redis-py takes it off where it has a class.)"""
    for kind, word in _BY_TYPE.items():
        if isinstance(error, kind):
            return word
    word = (str(error).split(maxsplit=1) or [""])[0]
    return word if word in _WORDS else OTHER


@dataclass
class _Said:
    at_s: float
    since: int = 0


class NotKept:
    """Counts and logs what shards refused to keep. Safe to use from every thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "keymiss_worker_not_kept_total",
            "What was computed and given, but could not be kept.",
            ("kind", "reason"),
            registry=registry,
        )
        self._counters = {(kind, why): counter.labels(kind, why) for kind in Kept for why in REASONS}
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str, str], _Said] = {}

    def refused(self, shard_address: str, kind: str, error: Exception) -> None:
        """The shard refused to keep it. ValueError when there is no such `Kept`."""
        what, reason = Kept(kind), reason_of(error)
        self._counters[what, reason].inc()
        with self._lock:
            place = (shard_address, what, reason)
            said = self._said.get(place)
            if said is not None and time.monotonic() - said.at_s < LOG_AGAIN_S:
                said.since += 1
                return
            more = said.since + 1 if said is not None else 1
            self._said[place] = _Said(time.monotonic())
        log_event(
            "not_kept",
            "warning",
            shard=shard_address,
            kind=what,
            reason=reason,
            error=one_line(error),
            times=more,
            next_line_after_s=LOG_AGAIN_S,
        )


class KeptTogether:
    """What is to be kept, in one round trip."""

    def __init__(self) -> None:
        self._kept: list[tuple[Kept, Sequence[Any]]] = []

    def add(self, kind: str, command: Sequence[Any]) -> None:
        """A command that keeps something; `kind` is a value of `Kept`."""
        self._kept.append((Kept(kind), command))

    def send(self, commands: Sequence[Sequence[Any]] = ()) -> list[Any]:
        """Sends all that was added, and before it `commands`, to which it gives the replies. What the shard
        refuses to keep is counted and logged, as by `keeping`."""
        kept, self._kept = self._kept, []
        replies = execute_together([*commands, *(command for _, command in kept)])
        _count_refused(kept, replies[len(commands) :])
        return replies[: len(commands)]

    def send_with_replies(
        self,
        commands: Sequence[Sequence[Any]],
        values: Sequence[tuple[object, Any]],
        version: ModelVersion,
    ) -> list[bool]:
        """Sends all that was added, `commands`, and the replies of records (value or error, record) that were
        made by that version of a model. False of those that do not count: it was replaced."""
        kept, self._kept = self._kept, []
        models = [(model.key, model.version) for model in version.models]
        commands = [*(command for _, command in kept), *commands]
        replies, taken = reply_together(commands, values, models)
        _count_refused(kept, replies[: len(kept)])
        return taken


def _count_refused(kept: Sequence[tuple[Kept, Any]], replies: Sequence[Any]) -> None:
    context = current()
    for (kind, _), reply in zip(kept, replies, strict=True):
        if isinstance(reply, Exception):
            context.services.not_kept.refused(context.shard.address, kind, reply)


@contextmanager
def keeping(kind: str) -> Iterator[None]:
    """What runs inside keeps something that is computed already: `kind` is a value of `Kept`. What the shard
    refuses is counted and logged, not raised; any other error is."""
    context = current()
    kept = Kept(kind)
    try:
        yield
    except (RedisError, OSError) as error:
        context.services.not_kept.refused(context.shard.address, kept, error)
