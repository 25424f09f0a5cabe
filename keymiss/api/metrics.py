"""What this process counts: requests, questions and their stages, the shards' answers (docs/metrics.md).

Label values that are known are set to 0 at the start, so that a rate over the first of a kind is right.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keymiss.api.unused import REASONS, Unused
from keymiss.retrieval import Retrieval

OTHER = "other"
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
"""A client may send any word as a method; a label has only these, and `OTHER`."""

QUESTION_BUCKETS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.35, 0.5, 1, 2, 5, 10)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)


class Ended(enum.StrEnum):
    """How a question ended."""

    ANSWERED = "answered"
    NOTHING_FOUND = "nothing_found"  # sentences were read, and the reader is sure enough of none
    REFUSED = "refused"  # 400, 408, 413, 422: not a question
    BUSY = "busy"  # 429
    LATE = "late"  # 504
    FAILED = "failed"  # 503
    LEFT = "left"  # the client closed its connection first
    ERROR = "error"  # 500: a fault of ours


class SentenceEnded(enum.StrEnum):
    """How the asking of one sentence ended."""

    CACHED = "cached"  # its answer was there before the question came
    COMPUTED = "computed"
    LATE = "late"
    BUSY = "busy"
    FAILED = "failed"


class Stage(enum.StrEnum):
    """The parts of a question's work, one after the other."""

    RETRIEVE = "retrieve"
    ASK = "ask"
    MERGE = "merge"


class ApiMetrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self) -> None:
        # For the whole process: when each series was made would be as many series again.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = Counter(
            "keymiss_http_requests_total",
            "HTTP requests.",
            ("route", "method", "code"),
            registry=registry,
        )
        self._request_s = Histogram(
            "keymiss_http_request_duration_seconds",
            "Until a request's reply was sent.",
            ("route",),
            registry=registry,
            buckets=QUESTION_BUCKETS_S,
        )
        self._questions = Counter(
            "keymiss_questions_total", "Questions by how they ended.", ("outcome",), registry=registry
        )
        self._question_s = Histogram(
            "keymiss_question_duration_seconds",
            "Questions that were answered or found nothing, from the request to the reply.",
            registry=registry,
            buckets=QUESTION_BUCKETS_S,
        )
        stage_s = Histogram(
            "keymiss_question_stage_duration_seconds",
            "Parts of the work on a question.",
            ("stage",),
            registry=registry,
            buckets=STAGE_BUCKETS_S,
        )
        self.questions_in_flight = Gauge(
            "keymiss_questions_in_flight", "Questions that are being worked on.", registry=registry
        )
        self.questions_limit = Gauge(
            "keymiss_questions_limit", "Questions that are worked on at once at most, now.", registry=registry
        )
        self.silent_masters = Gauge(
            "keymiss_silent_masters", "Masters that are not asked until they answer.", registry=registry
        )
        self._partial = Counter(
            "keymiss_questions_partial_total",
            "Questions that got a reply although sentences or shards were missing.",
            registry=registry,
        )
        self._unread = Counter(
            "keymiss_sentences_unread_total",
            "Sentences found and not read: an answer was sure before, or they lay far behind.",
            registry=registry,
        )
        self._unused = Counter(
            "keymiss_question_signals_unused_total",
            "Questions whose sentences could not be found by all vectors or links.",
            ("signal", "reason"),
            registry=registry,
        )
        self._sentences = Counter(
            "keymiss_sentence_answers_total",
            "Sentences asked on a shard, by how that ended.",
            ("shard", "outcome"),
            registry=registry,
        )
        self._sentence_s = Histogram(
            "keymiss_sentence_answer_duration_seconds",
            "Until a shard's answer for one sentence was there.",
            ("shard", "cached"),
            registry=registry,
            buckets=STAGE_BUCKETS_S,
        )
        for outcome in Ended:
            self._questions.labels(outcome)
        self._stage_s = {stage: stage_s.labels(stage) for stage in Stage}
        for signal, reasons in REASONS.items():
            for reason in reasons:
                self._unused.labels(signal, reason)

    def know_requests(self, known: Iterable[tuple[str, str, int]]) -> None:
        """Route, method and code of requests that are to be expected."""
        for route, method, code in known:
            self._requests.labels(route, method, code)

    def know_shards(self, tags: Iterable[str]) -> None:
        """The shards that there are."""
        for tag in tags:
            for outcome in SentenceEnded:
                self._sentences.labels(tag, outcome)
            for cached in ("yes", "no"):
                self._sentence_s.labels(tag, cached)

    def request_ended(self, route: str | None, method: str, code: int, took_s: float) -> None:
        """One HTTP request; ``route``: its path's template, None when no route took it."""
        name = route or OTHER
        self._requests.labels(name, method if method in METHODS else OTHER, code).inc()
        self._request_s.labels(name).observe(took_s)

    def question_ended(self, outcome: Ended, took_s: float) -> None:
        """One question."""
        self._questions.labels(outcome).inc()
        if outcome in (Ended.ANSWERED, Ended.NOTHING_FOUND):
            self._question_s.observe(took_s)

    def question_was_partial(self) -> None:
        """A reply was given although something was missing."""
        self._partial.inc()

    def sentences_left_unread(self, count: int) -> None:
        """Of one question."""
        self._unread.inc(count)

    def signal_was_unused(self, unused: Unused) -> None:
        """Of one question."""
        self._unused.labels(unused.signal, unused.reason).inc()

    def stage_ended(self, stage: Stage, took_s: float) -> None:
        """One stage of one question."""
        self._stage_s[stage].observe(took_s)

    def sentences_ended(self, tag: str, outcome: SentenceEnded, took_s: Collection[float]) -> None:
        """Sentences that were asked. The durations count for answers only."""
        self._sentences.labels(tag, outcome).inc(len(took_s))
        if outcome in (SentenceEnded.CACHED, SentenceEnded.COMPUTED):
            durations = self._sentence_s.labels(tag, "yes" if outcome is SentenceEnded.CACHED else "no")
            for each in took_s:
                durations.observe(each)


class IndexFigures(Collector):
    """The size of the retrieval's index at this moment, without shards that are not indexed yet."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval

    def collect(self) -> Iterator[Metric]:
        """Three gauges, each by shard."""
        indexes = self._retrieval.indexes()
        yield _by_shard(
            "keymiss_indexed_sentences",
            "Sentences in the search index.",
            {tag: index.sentences for tag, index in indexes.items()},
        )
        yield _by_shard(
            "keymiss_indexed_vectors",
            "Of them, those that can be found by their vector.",
            {tag: index.vectors() for tag, index in indexes.items()},
        )
        yield _by_shard(
            "keymiss_indexed_articles",
            "Articles whose sentences are in the search index.",
            {tag: index.articles for tag, index in indexes.items()},
        )


def _by_shard(name: str, help_text: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=["shard"])
    for tag, value in values.items():
        family.add_metric([tag], value)
    return family
