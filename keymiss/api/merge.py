"""What came back from the shards, ranked and counted. No input or output here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from keymiss.api.fanout import Outcome, Status
from keymiss.retrieval import Candidate


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of one sentence. ``reader_score``: the reader's, 0 to 1; of a calibrated reader the
    probability that the sentence answers the question.

    ``score``: what the answers are sorted by, 0 to 1: the reader's score times the sentence's share of the
    best sentence's BM25. Comparable within one question only.
    """

    answer: str
    reader_score: float
    score: float
    candidate: Candidate
    shard: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what was asked was answered. A shard is in each list that fits one of its sentences.

    ``unindexed``: shards whose sentences were not read yet, so that nothing could be asked there.
    """

    sentences: dict[str, int]
    shards: dict[str, list[str]]


def parse_answer(outcome: Outcome) -> Answer | None:
    """The answer in a ``bertspan`` value; None when the value is not what it should be."""
    try:
        value = json.loads(outcome.raw or b"")
        answer, score = value["answer"], value["score"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    if not isinstance(answer, str) or isinstance(score, bool) or not isinstance(score, int | float):
        return None
    if not math.isfinite(score):
        return None
    reader_score = min(max(float(score), 0.0), 1.0)
    return Answer(answer, reader_score, reader_score, outcome.candidate, outcome.shard, outcome.took_ms)


def ranked(answers: Iterable[Answer]) -> list[Answer]:
    """The answers with the score that they are sorted by, best first.

    scripts/evaluate_sample.py compares this with the reader alone and BM25 alone; python -m models.evaluate
    retrieval says how often the first answer is of the right paragraph.
    """
    answers = list(answers)
    best_bm25 = max((a.candidate.bm25 for a in answers), default=0.0)
    scored = [
        replace(a, score=a.reader_score * (a.candidate.bm25 / best_bm25 if best_bm25 > 0 else 1.0))
        for a in answers
    ]
    return sorted(scored, key=lambda a: (-a.score, -a.candidate.bm25, a.candidate.sentencekey))


def merge(outcomes: Iterable[Outcome], limit: int) -> list[Answer]:
    """The best answers of all shards, best first.

    An empty answer (the reader saw none in the sentence) is left out, and so is an answer that the
    same sentence gave already, be it that the sentence stands in several articles. Equal scores: the
    sentence that retrieval liked better, then by sentence key, so that the order is always the same.
    """
    parsed = [parse_answer(outcome) for outcome in outcomes if outcome.status is Status.ANSWERED]
    answers = ranked(answer for answer in parsed if answer and answer.answer.strip())
    seen: set[tuple[str, str]] = set()
    best = []
    for answer in answers:
        same = (_folded(answer.candidate.sentence), _folded(answer.answer))
        if same not in seen:
            seen.add(same)
            best.append(answer)
    return best[:limit]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def final_status(outcome: Outcome) -> Status:
    """As the shard's, but an answer that cannot be read counts as failed."""
    if outcome.status is Status.ANSWERED and parse_answer(outcome) is None:
        return Status.FAILED
    return outcome.status


def coverage(outcomes: Sequence[Outcome], unindexed: Iterable[str] = ()) -> Coverage:
    """Sentences and shards asked, answered, late, failed (busy is failed here)."""
    statuses = [(o.shard, Status.FAILED if (s := final_status(o)) is Status.BUSY else s) for o in outcomes]
    kinds = (Status.ANSWERED, Status.LATE, Status.FAILED)
    sentences = {"asked": len(outcomes)} | {k.value: sum(s is k for _, s in statuses) for k in kinds}
    shards = {"asked": _unique(shard for shard, _ in statuses)}
    shards |= {k.value: _unique(shard for shard, s in statuses if s is k) for k in kinds}
    shards["unindexed"] = sorted(unindexed)
    return Coverage(sentences, shards)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
