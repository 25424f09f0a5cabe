"""One question on its way: what the metrics and the log's line ``question`` say of it when it has ended."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from http import HTTPStatus

from starlette.requests import ClientDisconnect

from keymiss.api.http.disconnect import ClientLeft
from keymiss.api.http.problems import TABLE, Problem
from keymiss.api.metrics import ApiMetrics, Ended, SentenceEnded, Stage
from keymiss.api.questions.fanout import Outcome
from keymiss.api.shard_status import Status
from keymiss.api.unused import Unused
from keymiss.logs import log_event

BY_STATUS = {
    HTTPStatus.TOO_MANY_REQUESTS: Ended.BUSY,
    HTTPStatus.SERVICE_UNAVAILABLE: Ended.FAILED,
    HTTPStatus.GATEWAY_TIMEOUT: Ended.LATE,
}
NOT_ANSWERED = {
    Status.LATE: SentenceEnded.LATE,
    Status.BUSY: SentenceEnded.BUSY,
    Status.FAILED: SentenceEnded.FAILED,
}
WORTH_A_WARNING = {Ended.FAILED, Ended.LATE, Ended.ERROR}


class QuestionRecord:
    """Filled by who works on the question. The question's text is not in it."""

    def __init__(self, metrics: ApiMetrics) -> None:
        self._metrics = metrics
        self._start_s = time.perf_counter()
        self.outcome = Ended.ERROR  # until something better is known
        self._stages_ms: dict[str, float] = {}
        self._sentences: Counter[SentenceEnded] = Counter()
        self._shards: list[str] = []
        self._unused: list[dict[str, str | list[str]]] = []
        self._unread = 0

    def stage_ended(self, stage: Stage, took_s: float) -> None:
        """The next stage begins."""
        self._stages_ms[stage] = round(took_s * 1000, 2)
        self._metrics.stage_ended(stage, took_s)

    def sentences_ended(self, outcomes: Iterable[Outcome]) -> None:
        """What became of the sentences that were asked."""
        took_s: dict[tuple[str, SentenceEnded], list[float]] = {}
        for outcome in outcomes:
            took_s.setdefault((outcome.shard, _ended(outcome)), []).append(outcome.took_ms / 1000)
        for (shard, ended), of_each in took_s.items():
            self._sentences[ended] += len(of_each)
            self._metrics.sentences_ended(shard, ended, of_each)
            if shard not in self._shards:
                self._shards.append(shard)

    def left_unread(self, count: int) -> None:
        """Sentences that were found and not asked."""
        self._unread = count
        self._metrics.sentences_left_unread(count)

    def went_without(self, unused: Iterable[Unused]) -> None:
        """What sentences could not be found by."""
        for each in unused:
            self._unused.append({"signal": each.signal, "reason": each.reason, "missing": list(each.missing)})
            self._metrics.signal_was_unused(each)

    def replied(self, found: bool, partial: bool) -> None:
        """There is a reply; ``partial``: sentences or shards were missing."""
        self.outcome = Ended.ANSWERED if found else Ended.NOTHING_FOUND
        if partial:
            self._metrics.question_was_partial()

    def finish(self) -> None:
        """Counts the question and writes its line."""
        took_s = time.perf_counter() - self._start_s
        self._metrics.question_ended(self.outcome, took_s)
        each = self._sentences
        log_event(
            "question",
            "warning" if self.outcome in WORTH_A_WARNING else "info",
            outcome=self.outcome,
            took_ms=round(took_s * 1000, 2),
            stages_ms=self._stages_ms,
            sentences={
                "asked": each.total(),
                "answered": each[SentenceEnded.CACHED] + each[SentenceEnded.COMPUTED],
                **{ended: each[ended] for ended in SentenceEnded if ended is not SentenceEnded.COMPUTED},
                "unread": self._unread,
            },
            shards=self._shards,
            unused=self._unused,
        )


@contextlib.contextmanager
def recorded(metrics: ApiMetrics) -> Iterator[QuestionRecord]:
    """A question, from the moment its request is there; what is raised says how it ended."""
    record = QuestionRecord(metrics)
    metrics.questions_in_flight.inc()
    try:
        yield record
    except Problem as problem:
        status = TABLE[type(problem)][0]
        record.outcome = BY_STATUS.get(HTTPStatus(status), Ended.REFUSED)
        raise
    except (ClientLeft, ClientDisconnect):
        record.outcome = Ended.LEFT
        raise
    finally:
        metrics.questions_in_flight.dec()
        record.finish()


def _ended(outcome: Outcome) -> SentenceEnded:
    if outcome.status is Status.ANSWERED:
        return SentenceEnded.CACHED if outcome.cached else SentenceEnded.COMPUTED
    return NOT_ANSWERED[outcome.status]
