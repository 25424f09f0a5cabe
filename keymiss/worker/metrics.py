"""What this worker counts: jobs, pulls and model runs, in a registry of its own, served for Prometheus.

Each layer gets its part only: `JobMetrics` those who pull and run jobs, `ModelMetrics` those who run models.
Label values that are known are there from the start with 0, so that a rate over the first of a kind is right.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from keymiss import __version__, keys
from keymiss.reading.tensors import Tensor
from keymiss.worker.job import Job, JobCounts, JobKind, JobStatus
from keymiss.worker.not_kept import NotKept

JOB_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""From a function that only looks something up to `keymiss.miss-timeout-ms`, after which nobody waits."""

MODEL_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""A small int8 reader takes 3 ms for a sentence, BERT-large 0.3 s, a batch of long windows seconds."""

SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batches: a pull brings at most as many jobs as there are job threads (4 for each core by default)."""

MAX_MODELS = 20
"""Different values of the label `model`; anyone may store models under any name."""

OTHER_MODEL = "other"
KNOWN_MODELS = tuple(
    keys.without_tag(key("x")) for key in (keys.model_key, keys.lower_model_key, keys.encoder_key)
)


class _Counts(Collector):
    """`JobCounts`, read when they are asked for: there is no second count that could differ."""

    def __init__(self, counts: JobCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        pulled, ended = self._counts.by_kind()
        yield CounterMetricFamily("keymiss_worker_jobs_pulled", "Jobs taken from shards.", value=pulled)
        jobs = CounterMetricFamily(
            "keymiss_worker_jobs", "Jobs by how they ended.", labels=("kind", "status")
        )
        for kind in JobKind:
            for status in JobStatus:
                jobs.add_metric((kind, status), ended[kind, status])
        yield jobs


class JobMetrics:
    """Jobs, from the pull to their end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counts = JobCounts()
        registry.register(_Counts(self.counts))
        self._pull_jobs = Histogram(
            "keymiss_worker_pull_jobs",
            "Jobs that one pull brought; pulls that brought none are not counted.",
            buckets=SIZE_BUCKETS,
            registry=registry,
        )
        queue_s = Histogram(
            "keymiss_worker_job_queue_seconds",
            "From a job's making in its shard until this worker began it.",
            ("kind",),
            buckets=JOB_BUCKETS_S,
            registry=registry,
        )
        duration_s = Histogram(
            "keymiss_worker_job_duration_seconds",
            "From a job's begin until its shard had the answer.",
            ("kind",),
            buckets=JOB_BUCKETS_S,
            registry=registry,
        )
        self._queue_s = {kind: queue_s.labels(kind) for kind in JobKind}
        self._duration_s = {kind: duration_s.labels(kind) for kind in JobKind}

    def pulled(self, jobs: int) -> None:
        """One pull brought so many."""
        self.counts.pulled(jobs)
        self._pull_jobs.observe(jobs)

    def started(self, job: Job, queued_s: float) -> None:
        """It is run now, `queued_s` after it was made."""
        self._queue_s[job.kind].observe(queued_s)

    def ended(self, job: Job, status: JobStatus, took_s: float | None = None) -> None:
        """`took_s` is None for a job that was not begun here."""
        self.counts.ended(job.kind, status)
        if took_s is not None:
            self._duration_s[job.kind].observe(took_s)


@dataclass(frozen=True)
class _OneModel:
    run_s: Histogram
    queue_s: Histogram
    batch_size: Histogram
    tokens: Counter
    errors: Counter


def samples_of(inputs: Sequence[Tensor]) -> int:
    """Rows of a run."""
    return inputs[0].dims[0] if inputs and inputs[0].dims else 1


class ModelMetrics:
    """Model runs, by the model's key without its hash tag."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, ("model",), buckets=buckets, registry=registry)

        self._run_s = histogram(
            "keymiss_worker_model_run_seconds", "Time in the model, of runs that succeeded.", MODEL_BUCKETS_S
        )
        self._queue_s = histogram(
            "keymiss_worker_model_queue_seconds",
            "Waits for a runner, and the way there and back.",
            MODEL_BUCKETS_S,
        )
        self._batch_size = histogram(
            "keymiss_worker_model_batch_size", "Samples of a run: rows of its first input.", SIZE_BUCKETS
        )
        self._tokens = Counter(
            "keymiss_worker_model_tokens_total",
            "Rows x length of the first input of runs that succeeded: tokens, with padding.",
            ("model",),
            registry=registry,
        )
        self._errors = Counter(
            "keymiss_worker_model_errors_total",
            "Runs that failed, also for want of the model.",
            ("model",),
            registry=registry,
        )
        self._models = {name: self._make(name) for name in (*KNOWN_MODELS, OTHER_MODEL)}

    def _make(self, name: str) -> _OneModel:
        return _OneModel(
            self._run_s.labels(name),
            self._queue_s.labels(name),
            self._batch_size.labels(name),
            self._tokens.labels(name),
            self._errors.labels(name),
        )

    def _of(self, key: str) -> _OneModel:
        name = keys.without_tag(key)
        if name not in self._models:
            if len(self._models) > MAX_MODELS:  # with OTHER_MODEL
                return self._models[OTHER_MODEL]
            self._models[name] = self._make(name)
        return self._models[name]

    def ran(self, key: str, inputs: Sequence[Tensor], queued_s: float, took_s: float) -> None:
        """A run that succeeded."""
        model = self._of(key)
        model.run_s.observe(took_s)
        model.queue_s.observe(queued_s)
        model.batch_size.observe(samples_of(inputs))
        model.tokens.inc(prod(inputs[0].dims[:2]) if inputs else 0)  # the third size of states is their width

    def failed(self, key: str) -> None:
        """A run that failed, or could not begin."""
        self._of(key).errors.inc()


class RunEnd(enum.StrEnum):
    """Why a model run ended together with its process."""

    OVERDUE = "overdue"
    """It took too long: the process was ended."""
    CRASHED = "crashed"
    """The process ended by itself, or was killed by somebody else."""


class RunnerMetrics:
    """The processes that run models."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "keymiss_worker_model_runners_started_total",
            "Processes started to run models.",
            registry=registry,
        )
        ended = Counter(
            "keymiss_worker_model_runs_ended_total",
            "Model runs that ended together with their process.",
            ("reason",),
            registry=registry,
        )
        self._ended = {reason: ended.labels(reason) for reason in RunEnd}

    def started(self) -> None:
        """One more."""
        self._started.inc()

    def ended(self, reason: RunEnd) -> None:
        """A run failed so."""
        self._ended[reason].inc()


class WorkerMetrics:
    """All figures of one worker. `jobs` and `models` are for those who count."""

    def __init__(self, name: str, backend: str) -> None:
        # For the whole process: when each series was made would be as many series again.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.jobs = JobMetrics(registry)
        self.models = ModelMetrics(registry)
        self.runners = RunnerMetrics(registry)
        self.not_kept = NotKept(registry)
        about = Info("keymiss_worker", "The worker that these figures are of.", registry=registry)
        about.info({"name": name, "version": __version__, "backend": backend})

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge ``keymiss_worker_<name>`` whose value is asked for at each scrape, from another thread."""
        Gauge(f"keymiss_worker_{name}", text, registry=self.registry).set_function(value)

    def serve(self, host: str, port: int) -> None:
        """Serves them over HTTP from threads of its own, until the process ends. OSError when it cannot
        listen there."""
        start_http_server(port, host, self.registry)
