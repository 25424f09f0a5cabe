"""A job as it comes from ``KM.PULL``, every way it can end, and how often each happened."""

from __future__ import annotations

import enum
import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keymiss.cluster.topology import Shard
    from keymiss.worker.jobs.pull import Puller


class JobKind(enum.StrEnum):
    """What a job asks for."""

    MISS = "miss"
    """Clients wait for a key that does not exist."""
    EVENT = "event"
    """Something happened to a key that a registration watches."""
    SCRIPT = "script"
    """RG.PYEXECUTE; payload: source, "1" for UNBLOCKING, session, description, the session that it comes in
    the place of, requirements."""
    COMMAND = "command"
    """RG.TRIGGER, or a hooked command; payload: the trigger or command, and its arguments."""
    UNREGISTER = "unregister"
    """RG.UNREGISTER on every shard; payload: registration id, ABORTPENDING or nothing."""
    GEARS = "gears"
    """What is to be done on every shard; payload: the command, its arguments."""
    MODEL = "model"
    """AI.MODELEXECUTE; payload: model key, n, inputs, n, outputs."""
    TORCHSCRIPT = "torchscript"
    """AI.SCRIPTEXECUTE; payload: script key, function, where a list begins, and four counted lists: keys,
    arguments, inputs, outputs."""
    DAG = "dag"
    """AI.DAGEXECUTE; payload: "0"/"1" (read only), two counted lists (what is loaded, what is kept), the
    number of steps, and they."""
    LOOK = "look"
    """A model or script is to be looked into; payload: "model", key, backend, size; "script", key, source,
    entry points; or "stored", key."""
    SCAN = "scan"
    """AI._MODELSCAN, AI._SCRIPTSCAN; payload: "models" or "scripts"."""


class JobStatus(enum.StrEnum):
    """How a job ended. Every job that was pulled ends in exactly one of these."""

    DONE = "done"
    """It ran, and the shard took the reply."""
    FAILED = "failed"
    """It raised; the shard took the error's text."""
    LATE = "late"
    """It ran, but the shard had timed it out (or dropped it) by then."""
    ABANDONED = "abandoned"
    """Nobody waited for it any more: not started."""
    GIVEN_BACK = "given_back"
    """Handed back to the shard at shutdown."""
    LOST = "lost"
    """The connection it came by broke; the shard has it again, or the shard is gone."""


_LOCAL_IDS = itertools.count()


@dataclass(eq=False)
class Job:
    """One job. `remaining_ms` counts from the pull, 0 means without limit. `queued_ms` is the age it had
    then: for a job that came back to the shard, with the time that others had it. `request_ids` are those
    of the clients that waited for it then, as far as they gave one. `cache` and `answer_ttl_s` are the
    shard's settings of these names."""

    shard: Shard
    id: int
    kind: JobKind
    registration_id: str
    event: str
    key: bytes
    attempts: int
    remaining_ms: int
    cache: bool
    payload: list[bytes]
    queued_ms: int
    request_ids: list[str]
    answer_ttl_s: int
    batch: int = 1
    """So many misses of its registration are one run of its function. Of a model: so many rows are one run of
    it; its `registration_id` is the batch's name."""
    models_epoch: int = 0
    """Another number after each change to the shard's models."""
    ran_commands: bool = False
    """Its function has run commands: they may have changed what there is."""
    puller: Puller | None = None
    generation: int = 0
    """Number of the puller's connection that the job came by."""
    pulled_at_s: float = field(default_factory=time.monotonic)
    local_id: int = field(default_factory=lambda: next(_LOCAL_IDS))
    model_runs_us: list[int] = field(default_factory=list)
    """How long each model run of the job took; a list, as threads of one job may add to it."""

    @property
    def waited_s(self) -> float:
        """Seconds since the pull."""
        return time.monotonic() - self.pulled_at_s

    @property
    def request_fields(self) -> dict[str, list[str]]:
        """What a log line about the job has of its clients' requests: ``request_ids``, or nothing."""
        return {"request_ids": self.request_ids} if self.request_ids else {}

    @property
    def is_unattended(self) -> bool:
        """True for a script whose client has its id already: its time does not count."""
        return self.kind is JobKind.SCRIPT and self.payload[1:2] == [b"1"]

    @property
    def overdue(self) -> bool:
        """True when the shard has timed the job out by now."""
        return self.remaining_ms > 0 and self.waited_s * 1000 > self.remaining_ms


AI_JOBS = frozenset((JobKind.MODEL, JobKind.TORCHSCRIPT, JobKind.DAG, JobKind.LOOK, JobKind.SCAN))
"""Those of the AI commands: their errors have RedisAI's texts."""

Run = tuple[Job, ...]
"""What one thread does: a job, misses of one registration whose function takes several, or runs of one model
that are batched."""


def runs_of(jobs: Sequence[Job]) -> list[Run]:
    """The jobs of one pull, in their order."""
    together: dict[str, list[list[Job]]] = {}
    for job in jobs:
        runs = together.setdefault(job.registration_id if job.batch > 1 else f"{job.local_id}", [])
        if not runs or len(runs[-1]) >= job.batch:
            runs.append([])
        runs[-1].append(job)
    return [tuple(run) for runs in together.values() for run in runs]


def parse_job(shard: Shard, row: Sequence[object]) -> Job:
    """A job from its flat array. ValueError if the array is not one (a module of another version)."""
    if len(row) != 14:
        raise ValueError(f"a job has 14 fields, got {len(row)}")
    number, kind, registration, event, key, attempts, remaining_ms, cache, *rest = row
    payload, queued_ms, request_ids, answer_ttl_s, batch, models_epoch = rest
    if not isinstance(payload, list) or not isinstance(request_ids, list):
        raise ValueError("a job's payload and its request ids must be arrays")
    return Job(
        shard=shard,
        id=_int(number),
        kind=JobKind(_bytes(kind).decode()),
        registration_id=_bytes(registration).decode("utf-8", "surrogateescape"),
        event=_bytes(event).decode("utf-8", "surrogateescape"),
        key=_bytes(key),
        attempts=_int(attempts),
        remaining_ms=_int(remaining_ms),
        cache=bool(_int(cache)),
        payload=[_bytes(part) for part in payload],
        queued_ms=_int(queued_ms),
        request_ids=[_bytes(id_).decode("utf-8", "replace") for id_ in request_ids],
        answer_ttl_s=_int(answer_ttl_s),
        batch=_int(batch),
        models_epoch=_int(models_epoch),
    )


def _int(value: object) -> int:
    if isinstance(value, (int, bytes)):
        return int(value)
    raise ValueError(f"expected an integer, got {value!r}")


def _bytes(value: object) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return b"%d" % value
    raise ValueError(f"expected a string, got {value!r}")


class JobCounts:
    """How many jobs were pulled and how they ended. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pulled = 0
        self._ended: Counter[tuple[JobKind, JobStatus]] = Counter()

    def pulled(self, count: int) -> None:
        """Adds `count` jobs that came in."""
        with self._lock:
            self._pulled += count

    def ended(self, kind: JobKind, status: JobStatus) -> None:
        """Adds a job that ended so."""
        with self._lock:
            self._ended[kind, status] += 1

    def by_kind(self) -> tuple[int, Counter[tuple[JobKind, JobStatus]]]:
        """How many were pulled, and how many of each kind ended in which way."""
        with self._lock:
            return self._pulled, Counter(self._ended)

    def snapshot(self) -> dict[str, int]:
        """``pulled`` and one number for every `JobStatus`."""
        pulled, ended = self.by_kind()
        return {"pulled": pulled, **{s.value: sum(ended[kind, s] for kind in JobKind) for s in JobStatus}}
