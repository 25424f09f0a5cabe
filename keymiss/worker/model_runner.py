"""Fetches models from the shards once a process, and runs them in a pool of threads.

A model is named by the sha256 of its blob: the same model on four shards is loaded once. It is
dropped when no shard's key refers to it any more. Bad models and bad inputs end in a ModelError for
the request they came with; an error that is none of a request's own ends the process.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import Shard
from keymiss.logs import log_event, one_line
from keymiss.pipeline.records import as_dict
from keymiss.reading.backends.base import Backend, Model, ModelError
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.records import decode
from keymiss.worker.metrics import ModelMetrics, samples_of
from keymiss.worker.model_in_use import ModelInUse
from keymiss.worker.not_kept import Kept, NotKept

CHUNK_BYTES = 4 << 20
"""Read at a time; small enough that the shard's main thread copies it in a millisecond or so."""


@dataclass(frozen=True)
class ModelResult:
    """Outputs of a run, how long the model itself took, and how long the run waited for a thread."""

    outputs: list[Tensor]
    duration_us: int
    queued_us: int


@dataclass
class _Request:
    model: Model
    inputs: Sequence[Tensor]
    future: Future[ModelResult]
    submitted_ns: int


@dataclass(frozen=True)
class _Held:
    model: Model
    size_bytes: int


@dataclass(frozen=True)
class _Loaded:
    version: int
    sha256: str


class ModelStore:
    """Loaded models by digest, and which shard's key holds which."""

    def __init__(self, backends: dict[str, Backend], not_kept: NotKept) -> None:
        self._backends = backends
        self._not_kept = not_kept
        self._lock = threading.Lock()
        self._at: dict[tuple[str, str], _Loaded] = {}
        self._models: dict[str, _Held] = {}
        self._bad: dict[tuple[str, str], tuple[int, str]] = {}
        self._fetching: dict[str, threading.Lock] = {}
        self._load_lock = threading.Lock()

    def loaded(self) -> tuple[int, int]:
        """How many models are loaded, and the bytes of their blobs together."""
        with self._lock:
            return len(self._models), sum(held.size_bytes for held in self._models.values())

    def digest_at(self, shard: Shard, key: str) -> str | None:
        """The sha256 of the model that was at `key` when it was last asked for."""
        with self._lock:
            known = self._at.get((shard.identity, key))
        return known.sha256 if known else None

    def get(self, shard: Shard, connection: ShardConnection, key: str) -> tuple[Model, str]:
        """The model at `key` as it is now, and its sha256. ModelError if there is none or it is bad."""
        reply = connection.command("KM.MODELINFO", key)
        if reply is None:
            raise ModelError(f"there is no model at {key}")
        return self.get_as(shard, connection, key, reply)

    def get_as(
        self, shard: Shard, connection: ShardConnection, key: str, reply: Sequence[Any]
    ) -> tuple[Model, str]:
        """The same, of the model that this reply to KM.MODELINFO is about. Asks the shard only for a model
        that is not here; an error if it was replaced by then."""
        info = _info(reply)
        place = (shard.identity, key)
        with self._lock:
            known = self._at.get(place)
            held = None
            if known is not None and known.version == info.version:
                held = self._models.get(known.sha256)
            bad = self._bad.get(place)
            if held is None and bad is not None and bad[0] == info.version:
                raise ModelError(bad[1])
            guard = self._fetching.setdefault(info.sha256 or f"{place}", threading.Lock())
        if known is not None and held is not None:
            if not info.sha256:  # it was refused before
                self._note_digest(connection, key, info.version, known.sha256)
            return held.model, known.sha256
        with guard:
            return self._fetch(place, info, connection, key)

    def _note_digest(self, connection: ShardConnection, key: str, version: int, digest: str) -> None:
        """Tells the shard its model's digest. One that takes no writes runs it all the same."""
        try:
            connection.command("KM.MODELDIGEST", key, version, digest)
        except ResponseError as error:
            self._not_kept.refused(connection.address, Kept.MODEL_DIGEST, error)

    def _fetch(
        self, place: tuple[str, str], info: _Info, connection: ShardConnection, key: str
    ) -> tuple[Model, str]:
        with self._lock:
            held = self._models.get(info.sha256) if info.sha256 else None
        digest = info.sha256
        if held is None:
            blob = _download(connection, key, info)
            digest = hashlib.sha256(blob).hexdigest()
            held = self._load(place, info, digest, key, blob)
            if digest != info.sha256:
                self._note_digest(connection, key, info.version, digest)
        with self._lock:
            held = self._models.setdefault(digest, held)
            self._at[place] = _Loaded(info.version, digest)
            self._bad.pop(place, None)
            self._drop_unused()
        return held.model, digest

    def _load(self, place: tuple[str, str], info: _Info, digest: str, key: str, blob: bytes) -> _Held:
        """One model at a time: the blob, its copy in the backend and the graph are large, and the
        second of two shards that hold the same model finds it loaded."""
        with self._load_lock:
            with self._lock:
                held = self._models.get(digest)
            if held is not None:
                return held
            started_s = time.monotonic()
            try:
                backend = self._backends.get(info.backend.upper())
                if backend is None:
                    raise ModelError(f"this worker has no backend {info.backend}")
                held = _Held(backend.load(blob), len(blob))
            except ModelError as error:
                text = f"model {key}: {error}"
                with self._lock:
                    self._bad[place] = (info.version, text)
                log_event("model_bad", "warning", key=key, sha256=digest, error=text)
                raise ModelError(text) from error
            with self._lock:
                self._models[digest] = held
            took_ms = int((time.monotonic() - started_s) * 1000)
            described = held.model.about is not None  # else it is read with the tokenizer of KEYMISS_MODEL
            log_event(
                "model_loaded",
                key=key,
                sha256=digest,
                size_bytes=len(blob),
                took_ms=took_ms,
                has_tokenizer=described,
            )
            return held

    def _drop_unused(self) -> None:
        used = {loaded.sha256 for loaded in self._at.values()}
        for unused in [sha for sha in self._models if sha not in used]:
            del self._models[unused]
            log_event("model_dropped", sha256=unused)

    def forget_shards(self, alive: set[str]) -> None:
        """Forgets what shards that are gone held; models used by others stay."""
        with self._lock:
            for place in [place for place in self._at if place[0] not in alive]:
                del self._at[place]
            for place in [place for place in self._bad if place[0] not in alive]:
                del self._bad[place]


@dataclass(frozen=True)
class _Info:
    version: int
    backend: str
    size_bytes: int
    sha256: str


def _info(reply: Sequence[Any]) -> _Info:
    fields = as_dict(decode(reply))
    return _Info(
        version=int(fields["version"]),
        backend=fields["backend"],
        size_bytes=int(fields["size_bytes"]),
        sha256=fields["sha256"] or "",
    )


def _download(connection: ShardConnection, key: str, info: _Info) -> bytes:
    blob = bytearray()
    while len(blob) < info.size_bytes:
        length = min(CHUNK_BYTES, info.size_bytes - len(blob))
        chunk = connection.command("KM.MODELCHUNK", key, info.version, len(blob), length)
        if not chunk:
            raise ModelError(f"model {key}: the shard sent {len(blob)} of {info.size_bytes} bytes")
        blob += chunk
    return bytes(blob)


class ModelPool:
    """A queue and `threads` threads that run models, each on one core."""

    def __init__(self, threads: int, backends: Sequence[Backend], on_dead: Callable[[str], None]) -> None:
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._backends = list({id(backend): backend for backend in backends}.values())
        self._on_dead = on_dead
        self._threads = [
            threading.Thread(target=self._body, name=f"model-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets every thread end after the requests before this call."""
        for _ in self._threads:
            self._queue.put(None)

    def submit(self, model: Model, inputs: Sequence[Tensor]) -> Future[ModelResult]:
        """The future ends with a result or a ModelError."""
        request = _Request(model, inputs, Future(), time.perf_counter_ns())
        self._queue.put(request)
        return request.future

    def _body(self) -> None:
        request: _Request | None = None
        try:
            for backend in self._backends:
                backend.prepare_thread()
            while (request := self._queue.get()) is not None:
                self._run(request)
        except BaseException as error:
            if request is not None and not request.future.done():
                request.future.set_exception(ModelError("the worker's model thread died"))
            self._on_dead(f"model thread: {one_line(error)}")

    def _run(self, request: _Request) -> None:
        if not request.future.set_running_or_notify_cancel():
            return
        started_ns = time.perf_counter_ns()
        try:
            outputs = request.model.run(request.inputs)
        except Exception as error:
            failure = error if isinstance(error, ModelError) else ModelError(one_line(error))
            request.future.set_exception(failure)
            return
        took_us = (time.perf_counter_ns() - started_ns) // 1000
        request.future.set_result(ModelResult(outputs, took_us, (started_ns - request.submitted_ns) // 1000))


class ModelRunner:
    """Runs the model at a shard's key. A run is counted, here and in AI.INFO, before it is answered."""

    def __init__(self, store: ModelStore, pool: ModelPool, metrics: ModelMetrics, not_kept: NotKept) -> None:
        self.store = store
        self._not_kept = not_kept
        self._pool = pool
        self._metrics = metrics

    def use(self, shard: Shard, connection: ShardConnection, key: str, info: Sequence[Any]) -> ModelInUse:
        """The model that `info`, the shard's reply to KM.MODELINFO, is about; fetched (blocking) if need be.
        ModelError if it is bad."""
        model, sha256 = self.store.get_as(shard, connection, key, info)
        return ModelInUse(key, model, sha256, self._pool.submit, self._metrics)

    def start(
        self, shard: Shard, connection: ShardConnection, key: str, inputs: Sequence[Tensor]
    ) -> Future[ModelResult]:
        """Fetches the model if need be (blocking) and queues the run."""
        try:
            model, _ = self.store.get(shard, connection, key)
        except ModelError:
            self._failed(connection, key)
            raise
        return self._pool.submit(model, inputs)

    def finish(
        self,
        connection: ShardConnection,
        key: str,
        inputs: Sequence[Tensor],
        outcome: Future[ModelResult],
        outputs: int,
    ) -> ModelResult:
        """The result of a run that ended. ModelError if it failed or gave too few outputs;
        `outputs` is how many are wanted, 0 for all."""
        samples = samples_of(inputs)
        try:
            result = outcome.result()
            if outputs and len(result.outputs) != outputs:
                raise ModelError(f"the model has {len(result.outputs)} outputs, {outputs} were asked for")
        except ModelError as error:
            self._failed(connection, key)
            raise ModelError(f"model {key}: {error}") from error
        self._metrics.ran(key, inputs, result.queued_us / 1e6, result.duration_us / 1e6)
        self._report(connection, key, samples, result.duration_us, errors=0)
        return result

    def run(
        self, shard: Shard, connection: ShardConnection, key: str, inputs: Sequence[Tensor], outputs: int
    ) -> ModelResult:
        """`start`, wait, `finish`."""
        future = self.start(shard, connection, key, inputs)
        return self.finish(connection, key, inputs, future, outputs)

    def _failed(self, connection: ShardConnection, key: str) -> None:
        self._metrics.failed(key)
        self._report(connection, key, 0, 0, errors=1)

    def _report(
        self, connection: ShardConnection, key: str, samples: int, duration_us: int, errors: int
    ) -> None:
        try:
            connection.command("KM.MODELRAN", key, 1, samples, duration_us, errors)
        except Exception as error:  # statistics must not fail the answer
            self._not_kept.refused(connection.address, Kept.STATISTICS, error)
