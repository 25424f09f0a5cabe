"""One question, from the candidates to the merged reply."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from keymiss.api.articles.titles import ArticleFacts, Articles
from keymiss.api.http.problems import AllLate, NoShardAnswered, TooManyQuestions
from keymiss.api.metrics import Stage
from keymiss.api.questions.fanout import Outcome, ask_all
from keymiss.api.questions.linked_concepts import About, Linked
from keymiss.api.questions.merge import Answer, Coverage, Group, coverage, final_status, merge, shown
from keymiss.api.questions.question_vector import QuestionVectors
from keymiss.api.questions.record import QuestionRecord
from keymiss.api.settings import ApiSettings
from keymiss.api.shard_status import Status
from keymiss.api.unused import Reason, Signal, Unused, merged
from keymiss.cluster.shard_map import ShardMap
from keymiss.reading.stored_vector import Vector
from keymiss.retrieval import Candidate, Retrieval

Facts = Mapping[str, ArticleFacts]


class Knowledge(Protocol):
    """What is known of a question beside the answers in sentences. What could not be read is named in what
    is returned; nothing is raised for it."""

    async def about(self, question: str) -> About:
        """The concepts that the question names, and the links between them."""

    async def linked(self, question: str) -> Linked:
        """The sentences behind those links."""


class Asker:
    """Answers questions over all shards."""

    def __init__(
        self,
        settings: ApiSettings,
        shards: ShardMap,
        retrieval: Retrieval,
        articles: Articles,
        knowledge: Knowledge | None = None,
    ) -> None:
        self._settings = settings
        self._shards = shards
        self._retrieval = retrieval
        self._knowledge = knowledge
        self._articles = articles
        self._vectors = QuestionVectors(shards, settings.vector_time_limit_s)
        self._in_flight = 0

    async def ask(
        self, question: str, record: QuestionRecord, limit: int | None = None, offset: int = 0
    ) -> dict[str, Any]:
        """The reply of /qasearch, ``limit`` results (default: the setting) from ``offset`` on.

        ``record`` is told how it went. Raises TooManyQuestions, NoShardAnswered, AllLate.
        """
        if self._in_flight >= self._settings.max_questions:
            raise TooManyQuestions(f"{self._in_flight} questions are being answered; ask again in a second")
        self._in_flight += 1
        try:
            return await self._ask(question, record, limit or self._settings.results, offset)
        finally:
            self._in_flight -= 1

    async def _ask(self, question: str, record: QuestionRecord, limit: int, offset: int) -> dict[str, Any]:
        watch = Stopwatch(record.stage_ended)
        limit_s = self._settings.time_limit_s
        (vector, unused), linked = await asyncio.gather(self._vector_of(question), self._linked(question))
        candidates = await self._retrieval.candidates(
            question,
            self._settings.candidates_per_shard,
            vector,
            linked.scores,
            limit=self._settings.candidates,
        )
        unindexed = [shard.tag for shard in self._shards.shards if shard.tag not in candidates]
        if not candidates:
            raise NoShardAnswered("no shard can be reached, or none has been indexed yet")
        watch.stage(Stage.RETRIEVE)
        outcomes, facts, about = await asyncio.gather(
            ask_all(self._shards, candidates, question, limit_s),
            self._facts_of(candidates, limit_s),
            self._about(question),
        )
        watch.stage(Stage.ASK)
        record.sentences_ended(outcomes)
        covered = coverage(outcomes, unindexed, merged([*unused, *linked.unused, *about.unused]))
        record.went_without(covered.unused)
        refuse_if_none_answered(outcomes, covered)
        groups = merge(outcomes)
        sure = shown(groups, self._settings.min_score)
        page = sure[offset : offset + limit]
        reply = {
            "found": bool(sure),
            "message": None if sure else nothing_found(groups, covered, self._settings.min_score),
            "concepts": about.concepts,
            "links": about.links,
            "results": [_result(group, facts) for group in page],
            "total": len(sure),
            "limit": limit,
            "offset": offset,
            "score": round(sure[0].best.score, 6) if sure else None,
            "coverage": asdict(covered),
        }
        watch.stage(Stage.MERGE)
        record.replied(found=bool(sure), partial=is_partial(covered))
        return reply | {"took_ms": watch.took_ms, "stages_ms": watch.stages_ms}

    async def _facts_of(self, candidates: Mapping[str, Sequence[Candidate]], limit_s: float) -> Facts:
        return await self._articles.get((c.article for each in candidates.values() for c in each), limit_s)

    async def _vector_of(self, question: str) -> tuple[Vector | None, tuple[Unused, ...]]:
        """Its vector, and what cannot be found by it."""
        if self._settings.vector_weight == 0:
            return None, ()
        found = await self._vectors.get(question)
        indexes = self._retrieval.indexes().items()
        without = tuple(tag for tag, index in indexes if index.vectors < index.sentences)
        unused = (Unused(Signal.VECTORS, Reason.INCOMPLETE, without),) if without else ()
        return (None, (found, *unused)) if isinstance(found, Unused) else (found, unused)

    async def _linked(self, question: str) -> Linked:
        if self._knowledge is None or self._settings.graph_weight == 0:
            return Linked({})
        return await self._knowledge.linked(question)

    async def _about(self, question: str) -> About:
        return About([], []) if self._knowledge is None else await self._knowledge.about(question)


class Stopwatch:
    """Milliseconds since it was made, and of each stage; ``on_stage`` hears the seconds of each."""

    def __init__(self, on_stage: Callable[[Stage, float], None]) -> None:
        self._start_s = self._stage_start_s = time.perf_counter()
        self._on_stage = on_stage
        self.stages_ms: dict[str, float] = {}

    def stage(self, stage: Stage) -> None:
        """The stage ends here; the next begins."""
        now_s = time.perf_counter()
        took_s, self._stage_start_s = now_s - self._stage_start_s, now_s
        self.stages_ms[stage] = round(took_s * 1000, 2)
        self._on_stage(stage, took_s)

    @property
    def took_ms(self) -> float:
        """From the start until now."""
        return round((time.perf_counter() - self._start_s) * 1000, 2)


def is_partial(covered: Coverage) -> bool:
    """Whether sentences that were asked, or whole shards, are missing."""
    return covered.sentences["answered"] < covered.sentences["asked"] or bool(covered.shards["unindexed"])


def refuse_if_none_answered(outcomes: list[Outcome], covered: Coverage) -> None:
    """All late: AllLate; some late and the rest failed: AllLate too, since waiting may help; a full
    queue: TooManyQuestions; else NoShardAnswered. Something answered, or nothing was asked: nothing."""
    if not outcomes or covered.sentences["answered"]:
        return
    counts = Counter(final_status(outcome) for outcome in outcomes)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    detail = f"{len(outcomes)} sentences were asked on {len(covered.shards['asked'])} shards: {said}"
    kinds = ((Status.LATE, AllLate), (Status.BUSY, TooManyQuestions), (Status.FAILED, NoShardAnswered))
    for status, problem in kinds:
        if counts[status]:
            raise problem(detail, coverage=asdict(covered))


def nothing_found(groups: Sequence[Group], covered: Coverage, min_score: float) -> str:
    """In words, for a person: what was read without finding an answer, and what was not read."""
    read = covered.sentences["answered"]
    if covered.sentences["asked"]:
        said = f"Nothing was found: {_many(read, 'sentence')} {'was' if read == 1 else 'were'} read "
        said += f"on {_many(len(covered.shards['answered']), 'shard')}, "
        if groups:
            said += f"and the best answer's probability, {max(g.reader_score for g in groups):.2g}, "
            said += f"is below {min_score:g}."
        else:
            said += "and none holds an answer."
    else:
        said = "Nothing was found: no sentence has to do with the question's words."
    for status, what in (("late", "did not answer in time"), ("failed", "failed")):
        if count := covered.sentences[status]:
            said += f" {_many(count, 'sentence')} {what} (shards {', '.join(covered.shards[status])})."
    if covered.shards["unindexed"]:
        said += f" Not searched yet: shards {', '.join(covered.shards['unindexed'])}."
    if covered.unused:
        said += f" Not all could be used: {', '.join(map(_in_words, covered.unused))}."
    return said


def _in_words(unused: Unused) -> str:
    where = f": {', '.join(unused.missing)}" if unused.missing else ""
    return f"{unused.signal} ({unused.reason}{where})"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _result(group: Group, facts: Facts) -> dict[str, Any]:
    candidate = group.best.candidate
    return _source(group.best, facts) | {
        "bm25": round(candidate.bm25, 4),
        "cosine": None if candidate.cosine is None else round(candidate.cosine, 4),
        "found_by": list(candidate.found_by),
        "sources": [_source(member, facts) for member in group.members],
    }


def _source(answer: Answer, facts: Facts) -> dict[str, Any]:
    candidate = answer.candidate
    about = facts[candidate.article]
    start, end = answer.span or (None, None)
    return {
        "answer": answer.answer,
        "sentence": candidate.sentence,
        "sentencekey": candidate.sentencekey,
        "article": candidate.article,
        "title": about.title,
        "year": about.year,
        "start": start,
        "end": end,
        "score": round(answer.score, 6),
        "reader_score": answer.reader_score,
        "shard": answer.shard,
        "cached": answer.cached,
        "took_ms": answer.took_ms,
    }
