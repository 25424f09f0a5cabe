"""Fetches models from the shards once a worker, and runs them in processes of their own (`model_processes`).

A model is named by its backend and the sha256 of its blob: the same model on four shards is loaded once. It
is dropped when no shard's key refers to it any more. Bad models and bad inputs end in a ModelError for
the request they came with, and so does a run that takes too long or ends its process.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any
from weakref import WeakValueDictionary

from redis.exceptions import ResponseError

from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import Shard
from keymiss.logs import log_event
from keymiss.pipeline.records import as_dict
from keymiss.reading.backends.base import ModelError
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.job_context import CURRENT
from keymiss.worker.functions.records import decode
from keymiss.worker.functions.run_terms import current_terms
from keymiss.worker.metrics import ModelMetrics, samples_of
from keymiss.worker.model_in_use import ModelInUse, check_outputs
from keymiss.worker.model_processes.asks import FunctionCall
from keymiss.worker.model_processes.libraries import Libraries, LoadedModel, NotNow
from keymiss.worker.model_processes.pool import ModelPool
from keymiss.worker.model_processes.run_queue import ModelResult
from keymiss.worker.not_kept import Kept, NotKept

CHUNK_BYTES = 4 << 20
"""Read at a time; small enough that the shard's main thread copies it in a millisecond or so."""

MAX_FETCHED = 8
"""At once, from different shards."""

LARGE_BYTES = 256 << 20
"""Of larger ones, as those of 1.3 GB, one is loaded at a time; the embedded ones have 24 to 134 MB."""

LOOK_S = 0.2
"""Whoever waits for a model can be interrupted so often: not inside of a wait."""


Part = Callable[[int, int], bytes | None]
"""Reads a model's blob: so many bytes from an offset on."""

_Name = tuple[str, str]
"""A loaded model's: its backend, and its blob's sha256."""


@dataclass(frozen=True)
class _Held:
    model: LoadedModel
    size_bytes: int


@dataclass(frozen=True)
class _Loaded:
    version: int
    name: _Name

    @property
    def sha256(self) -> str:
        return self.name[1]


@dataclass(frozen=True)
class Looked:
    """What was found in a model that is to be stored."""

    place: tuple[str, str]
    name: _Name
    model: LoadedModel

    @property
    def sha256(self) -> str:
        """Of its blob."""
        return self.name[1]


class ModelStore:
    """Loaded models by digest, and which shard's key holds which."""

    def __init__(self, libraries: Libraries, not_kept: NotKept) -> None:
        self._libraries = libraries
        self._not_kept = not_kept
        self._lock = threading.Lock()
        self._at: dict[tuple[str, str], _Loaded] = {}
        self._said: dict[tuple[str, str], _Said] = {}
        self._models: dict[_Name, _Held] = {}
        self._bad: dict[tuple[str, str], tuple[int, str, str]] = {}
        self._fetchers = ThreadPoolExecutor(MAX_FETCHED, "fetch-model")
        self._fetching: dict[tuple[str, str, int], Future[tuple[LoadedModel, str]]] = {}
        self._guards: dict[str, threading.Lock] = {}
        self._load_large = threading.Lock()
        self._load_locks: WeakValueDictionary[_Name, threading.Lock] = WeakValueDictionary()

    def loaded(self) -> tuple[int, int]:
        """How many models are loaded, and the bytes of their blobs together."""
        with self._lock:
            return len(self._models), sum(held.size_bytes for held in self._models.values())

    def digest_at(self, shard: Shard, key: str) -> str | None:
        """The sha256 of the model that was at `key` when it was last asked for."""
        with self._lock:
            known = self._at.get((shard.identity, key))
        return known.sha256 if known else None

    def run_s(self, shard: Shard, key: str) -> float:
        """How long a run of that model takes, about; infinity while it is not known."""
        with self._lock:
            known = self._at.get((shard.identity, key))
            held = known and self._held(known.name)
        return held.model.run_s if held else inf

    def infos(self, shard: Shard, keys: Sequence[str], epoch: int) -> list[Any] | None:
        """The shard's replies to KM.MODELINFO of these keys in that epoch, as `note_info` was given them;
        None if they are not known."""
        with self._lock:
            said = [self._said_of((shard.identity, key), epoch) for key in keys]
        known = [one.reply for one in said if one]
        return known if len(known) == len(said) else None

    def note_info(self, shard: Shard, key: str, epoch: int, reply: Any) -> None:
        """The shard's decoded reply to KM.MODELINFO in that epoch (0: in one that is not known)."""
        with self._lock:
            self._note((shard.identity, key), _Said(epoch, reply))

    def _said_of(self, place: tuple[str, str], epoch: int) -> _Said | None:
        """With the lock held."""
        said = self._said.get(place)
        return said if said and epoch and said.epoch == epoch else None

    def _note(self, place: tuple[str, str], said: _Said) -> None:
        """With the lock held. A digest that a worker is about to find begins no epoch."""
        if said.epoch and (said.info is None or said.info.sha256):
            self._said[place] = said

    def get(
        self, shard: Shard, connection: ShardConnection, key: str, epoch: int = 0
    ) -> tuple[LoadedModel, str]:
        """The model at `key` as it is now, and its sha256. ModelError if there is none or it is bad. `epoch`:
        of the shard's models, if it is known: the shard is asked once in each."""
        place = (shard.identity, key)
        with self._lock:
            said, known = self._said_of(place, epoch), self._at.get(place)
        if said is None or said.info is None or known is None or known.version != said.info.version:
            said = _Said(epoch, decode(connection.command("KM.MODELINFO", key)))
        if said.info is None:
            raise ModelError(f"there is no model at {key}")
        got = self._get(place, said.info, connection)
        with self._lock:
            self._note(place, said)
        return got

    def get_as(
        self, shard: Shard, connection: ShardConnection, key: str, reply: Sequence[Any]
    ) -> tuple[LoadedModel, str]:
        """The same, of the model that this reply to KM.MODELINFO is about. Asks the shard only for a model
        that is not here; an error if it was replaced by then.

        A model is fetched in a thread of its own: it may take longer than the job that wants it has, and must
        not stop half-way with it."""
        return self._get((shard.identity, key), _info(reply), connection)

    def _get(
        self, place: tuple[str, str], info: _Info, connection: ShardConnection
    ) -> tuple[LoadedModel, str]:
        with self._lock:
            known = self._at.get(place)
            held = None
            if known is not None and known.version == info.version:
                held = self._held(known.name)
            bad = self._bad.get(place)
            if held is None and bad is not None and bad[0] == info.version:
                raise ModelError(bad[1], bad[2])
            if held is None:
                fetched = self._fetched(place, info, connection)
        if known is not None and held is not None:
            if not info.sha256:  # it was refused before
                self.note_digest(connection, place[1], info.version, known.sha256)
            return held.model, known.sha256
        while not fetched.done():
            wait((fetched,), LOOK_S)
        return fetched.result()

    def _fetched(
        self, place: tuple[str, str], info: _Info, connection: ShardConnection
    ) -> Future[tuple[LoadedModel, str]]:
        """With the lock held."""
        what = (*place, info.version)
        if what not in self._fetching:
            self._fetching[what] = self._fetchers.submit(self._fetch_for, place, info, connection.another())
        return self._fetching[what]

    def _fetch_for(
        self, place: tuple[str, str], info: _Info, connection: ShardConnection
    ) -> tuple[LoadedModel, str]:
        try:
            with self._lock:
                guard = self._guards.setdefault(info.sha256 or f"{place}", threading.Lock())
            with guard:
                return self._fetch(place, info, connection, place[1])
        finally:
            connection.close()
            with self._lock:
                del self._fetching[(*place, info.version)]

    def note_digest(self, connection: ShardConnection, key: str, version: int, digest: str) -> None:
        """Tells the shard its model's digest. One that takes no writes runs it all the same."""
        try:
            connection.command("KM.MODELDIGEST", key, version, digest)
        except ResponseError as error:
            self._not_kept.refused(connection.address, Kept.MODEL_DIGEST, error)

    def _fetch(
        self, place: tuple[str, str], info: _Info, connection: ShardConnection, key: str
    ) -> tuple[LoadedModel, str]:
        digest = info.sha256
        with self._lock:
            held = self._held((info.backend, digest))
        if held is None and (kept := self._libraries.kept(info.backend, digest)) is not None:
            held = _Held(kept, info.size_bytes)
            log_event("model_taken_over", key=key, sha256=digest, size_bytes=info.size_bytes)
        if held is None:
            with os.fdopen(os.memfd_create("model"), "r+b", buffering=0) as blob:
                part = partial(connection.command, "KM.MODELCHUNK", key, info.version)
                digest = _download(key, info.size_bytes, part, blob)
                held = self._load(place, info, digest, key, blob.fileno())
            if digest != info.sha256:
                self.note_digest(connection, key, info.version, digest)
        with self._lock:
            self._models[info.backend, digest] = held
            self._at[place] = _Loaded(info.version, (info.backend, digest))
            self._bad.pop(place, None)
            self._drop_unused()
        return held.model, digest

    def _held(self, name: _Name) -> _Held | None:
        """With the lock held. None if it is not loaded, or its process has ended."""
        held = self._models.get(name)
        return None if held is None or held.model.lost else held

    def _load_lock(self, name: _Name, size_bytes: int) -> threading.Lock:
        if size_bytes > LARGE_BYTES:
            return self._load_large
        with self._lock:
            return self._load_locks.setdefault(name, threading.Lock())

    def _load(self, place: tuple[str, str], info: _Info, digest: str, key: str, file: int) -> _Held:
        """The second of two shards that hold the same model finds it loaded. One large model at a time: the
        blob, its copy in the backend and the graph are in memory together."""
        name = (info.backend, digest)
        with self._load_lock(name, info.size_bytes):
            with self._lock:
                held = self._held(name)
            if held is not None:
                return held
            started_s = time.monotonic()
            try:
                held = _Held(self._libraries.load(info.backend, file, digest), info.size_bytes)
            except ModelError as error:
                text = f"model {key}: {error}"
                log_event("model_bad", "warning", key=key, sha256=digest, error=text)
                if isinstance(error, NotNow):
                    raise NotNow(text) from error
                with self._lock:
                    self._bad[place] = (info.version, text, error.reason)
                raise ModelError(text, error.reason) from error
            with self._lock:
                self._models[info.backend, digest] = held
            took_ms = int((time.monotonic() - started_s) * 1000)
            described = held.model.about is not None  # else it is read with the tokenizer of KEYMISS_MODEL
            log_event(
                "model_loaded",
                key=key,
                sha256=digest,
                size_bytes=info.size_bytes,
                took_ms=took_ms,
                has_tokenizer=described,
            )
            return held

    def look(self, key: str, backend: str, size_bytes: int, part: Part) -> Looked:
        """Loads a blob that is to be stored at `key`. ModelError if it is bad, which is not remembered."""
        info = _Info(version=-1, backend=backend, size_bytes=size_bytes, sha256="")
        with os.fdopen(os.memfd_create("model"), "r+b", buffering=0) as blob:
            name = backend, _download(key, size_bytes, part, blob)
            place = ("", f"{key} {name}")  # of no shard yet
            try:
                held = self._load(place, info, name[1], key, blob.fileno())
            finally:
                with self._lock:
                    self._bad.pop(place, None)
        with self._lock:
            self._at[place] = _Loaded(info.version, name)
        return Looked(place, name, held.model)

    def looked(self, shard: Shard, key: str, looked: Looked, version: int | None) -> None:
        """The blob was stored, as this version (None: it was not)."""
        with self._lock:
            self._at.pop(looked.place, None)
            if version is not None:
                self._at[shard.identity, key] = _Loaded(version, looked.name)
                self._bad.pop((shard.identity, key), None)
            self._drop_unused()

    def _drop_unused(self) -> None:
        used = {loaded.name for loaded in self._at.values()}
        for unused in [name for name in self._models if name not in used]:
            del self._models[unused]
            log_event("model_dropped", sha256=unused[1])

    def forget_shards(self, alive: set[str]) -> None:
        """Forgets what shards that are gone held; models used by others stay."""
        with self._lock:
            for place in [place for place in self._at if place[0] and place[0] not in alive]:
                del self._at[place]
            for place in [place for place in self._said if place[0] not in alive]:
                del self._said[place]
            for place in [place for place in self._bad if place[0] not in alive]:
                del self._bad[place]


@dataclass(frozen=True)
class _Info:
    version: int
    backend: str
    size_bytes: int
    sha256: str


class _Said:
    """A shard's reply to KM.MODELINFO, in that epoch of its models. `info` is None if there is no model."""

    def __init__(self, epoch: int, reply: Any) -> None:
        self.epoch, self.reply = epoch, reply
        self.info = None if reply is None else _info(reply)


def _info(reply: Sequence[Any]) -> _Info:
    fields = as_dict(decode(reply))
    return _Info(
        version=int(fields["version"]),
        backend=fields["backend"],
        size_bytes=int(fields["size_bytes"]),
        sha256=fields["sha256"] or "",
    )


def _current_epoch() -> int:
    context = CURRENT.get()
    return 0 if context is None else context.models_epoch


def _download(key: str, size_bytes: int, part: Part, to: io.FileIO) -> str:
    """Its sha256."""
    digest, read = hashlib.sha256(), 0
    while read < size_bytes:
        chunk = part(read, min(CHUNK_BYTES, size_bytes - read))
        if not chunk:
            raise ModelError(f"model {key}: the shard sent {read} of {size_bytes} bytes")
        digest.update(chunk)
        to.write(chunk)
        read += len(chunk)
    return digest.hexdigest()


class ModelRunner:
    """Runs the model at a shard's key. A run is counted, here and in AI.INFO, before it is answered."""

    def __init__(self, store: ModelStore, pool: ModelPool, metrics: ModelMetrics, not_kept: NotKept) -> None:
        self.store = store
        self._not_kept = not_kept
        self._pool = pool
        self._metrics = metrics

    @property
    def processes(self) -> int:
        """So many runs go on at once."""
        return self._pool.size

    def pending(self) -> int:
        """Runs that were asked for and have not ended."""
        return self._pool.pending()

    def use(self, shard: Shard, connection: ShardConnection, key: str, info: Sequence[Any]) -> ModelInUse:
        """The model that `info`, the shard's reply to KM.MODELINFO, is about; fetched (blocking) if need be.
        ModelError if it is bad."""
        model, sha256 = self.store.get_as(shard, connection, key, info)
        return ModelInUse(key, model, sha256, self._pool.submit_in_turn, self._metrics)

    def start(
        self, shard: Shard, connection: ShardConnection, key: str, inputs: Sequence[Tensor]
    ) -> Future[ModelResult]:
        """Fetches the model if need be (blocking) and queues the run."""
        try:
            model, _ = self.store.get(shard, connection, key, _current_epoch())
        except ModelError:
            self.failed(connection, key)
            raise
        return self._pool.submit(model, inputs, current_terms())

    def start_in_turn(
        self, shard: Shard, connection: ShardConnection, key: str, many: Sequence[Sequence[Tensor]]
    ) -> Future[ModelResult]:
        """The same of several runs, which have as many inputs each: one after the other in one process. That
        it fails is not counted: each can be tried by itself."""
        model, _ = self.store.get(shard, connection, key, _current_epoch())
        return self._pool.submit_in_turn(model, many, current_terms())

    def submit(
        self, script: LoadedModel, inputs: Sequence[Tensor], call: FunctionCall
    ) -> Future[ModelResult]:
        """Queues a run of a script."""
        return self._pool.submit(script, inputs, current_terms(), call)

    def finish(
        self,
        connection: ShardConnection,
        key: str,
        inputs: Sequence[Tensor],
        outcome: Future[ModelResult],
        outputs: int,
        what: str = "model",
    ) -> ModelResult:
        """The result of a run that ended. ModelError if it failed or gave too few outputs;
        `outputs` is how many are wanted, 0 for all; `what`: what is at the key."""
        try:
            result = outcome.result()
            check_outputs(result.outputs, outputs, what)
        except ModelError as error:
            self.failed(connection, key)
            raise ModelError(f"{what} {key}: {error}", error.reason) from error
        self._ran(connection, key, inputs, result.queued_us, result.duration_us)
        return result

    def finish_in_turn(
        self,
        connection: ShardConnection,
        key: str,
        many: Sequence[Sequence[Tensor]],
        outcome: Future[ModelResult],
        outputs: Sequence[int],
    ) -> list[list[Tensor]]:
        """The same of `start_in_turn`: the outputs of each. If one failed, all did."""
        result = outcome.result()
        for made, wanted in zip(result.outputs_of_each, outputs, strict=True):
            check_outputs(made, wanted)
        for inputs, took_us in zip(many, result.took_us, strict=True):
            self._ran(connection, key, inputs, result.queued_us, took_us)
        return result.outputs_of_each

    def _ran(
        self,
        connection: ShardConnection,
        key: str,
        inputs: Sequence[Tensor],
        queued_us: int,
        duration_us: int,
    ) -> None:
        self._metrics.ran(key, inputs, queued_us / 1e6, duration_us / 1e6)
        self._report(connection, key, samples_of(inputs), duration_us, errors=0)

    def run(
        self, shard: Shard, connection: ShardConnection, key: str, inputs: Sequence[Tensor], outputs: int
    ) -> ModelResult:
        """`start`, wait, `finish`."""
        future = self.start(shard, connection, key, inputs)
        return self.finish(connection, key, inputs, future, outputs)

    def failed(self, connection: ShardConnection, key: str) -> None:
        """Counts a run that failed, or could not begin."""
        self._metrics.failed(key)
        self._report(connection, key, 0, 0, errors=1)

    def _report(
        self, connection: ShardConnection, key: str, samples: int, duration_us: int, errors: int
    ) -> None:
        """Statistics have no round trip of their own: they go before the answer, and must not fail it."""
        connection.post(
            ("KM.MODELRAN", key, 1, samples, duration_us, errors),
            partial(self._not_kept.refused, connection.address, Kept.STATISTICS),
        )
