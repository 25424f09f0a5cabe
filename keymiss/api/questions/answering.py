"""One question, from the candidates to the merged reply."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keymiss.api.articles.titles import Articles
from keymiss.api.http.problems import AllLate, NoShardAnswered, TooManyQuestions
from keymiss.api.metrics import Stage
from keymiss.api.questions.admission import Admission, Turn
from keymiss.api.questions.fanout import Outcome, ask_all
from keymiss.api.questions.linked_concepts import About, Linked
from keymiss.api.questions.merge import Coverage, coverage, merge, shown
from keymiss.api.questions.no_sure_answer import no_sure_answer
from keymiss.api.questions.question_in_key import question_in_key
from keymiss.api.questions.question_vector import QuestionVectors
from keymiss.api.questions.record import QuestionRecord
from keymiss.api.questions.reply_members import Facts, closest, result
from keymiss.api.questions.sureness import outlook
from keymiss.api.settings import ApiSettings
from keymiss.api.shard_status import Status
from keymiss.api.unused import Reason, Signal, Unused, merged
from keymiss.cluster.shard_map import ShardMap
from keymiss.graph.pages import Link
from keymiss.reading.stored_vector import Encoded
from keymiss.retrieval import WHOLE_CORPUS, Candidate, CorpusFilter, Retrieval

SOON = 0.5
"""Of the time limit: as many questions are answered at once as end within that part of it."""
FIRST_PART = 0.25
"""Of the time limit: the other candidates are not kept waiting for longer by the first ones."""

ByShard = Mapping[str, Sequence[Candidate]]


class Knowledge(Protocol):
    """What is known of a question beside the answers in sentences. What could not be read is named in what
    is returned; nothing is raised for it."""

    async def about(self, question: str, known: tuple[Link, ...] | None) -> About:
        """The concepts that the question names, and the links between them, if `known`."""

    async def linked(self, question: str, only: CorpusFilter) -> Linked:
        """The sentences behind those links, as far as the filter takes them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question and what is wanted for it. None: the setting holds.

    ``limit``, ``offset``: of the results. ``min_score``: what an answer's score
    must be for it to be shown. ``only``: what is searched. ``exhaustive``: every
    candidate is read, though an answer may be sure before.
    """

    question: str
    limit: int | None = None
    offset: int = 0
    min_score: float | None = None
    only: CorpusFilter = WHOLE_CORPUS
    exhaustive: bool = False


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
        self._admission = Admission(settings.max_questions, settings.time_limit_s * SOON)

    @property
    def most_at_once(self) -> int:
        """How many questions are answered at once at most, now."""
        return self._admission.limit

    async def ask(self, wanted: Wanted, record: QuestionRecord) -> dict[str, Any]:
        """The reply of /qasearch.

        ``record`` is told how it went. Raises TooManyQuestions, NoShardAnswered, AllLate.
        """
        with self._admission.admitted() as turn:
            return await self._ask(wanted, record, turn)

    async def _ask(self, wanted: Wanted, record: QuestionRecord, turn: Turn) -> dict[str, Any]:
        watch = Stopwatch(record.stage_ended)
        question, only = wanted.question, wanted.only
        in_key = question_in_key(question, self._settings.ignore_case)
        of_question, linked = await asyncio.gather(self._vector_of(in_key), self._linked(question, only))
        vector = of_question if isinstance(of_question, Encoded) else None

        async def best(without: Collection[str] = ()) -> ByShard:
            return await self._retrieval.candidates(
                question,
                self._settings.candidates_per_shard,
                vector,
                linked.scores,
                limit=self._settings.candidates,
                only=only,
                without=without,
            )

        lacking = self._lacking_vectors(vector)
        candidates = await best()
        lacking |= self._lacking_vectors(vector)  # articles come and slots move meanwhile
        unused = [of_question] if isinstance(of_question, Unused) else []
        if lacking:
            unused.append(Unused(Signal.VECTORS, Reason.INCOMPLETE, tuple(sorted(lacking))))
        unindexed = [shard.tag for shard in self._shards.shards if shard.tag not in candidates]
        if not candidates:
            raise NoShardAnswered("no shard can be reached, or none has been indexed yet")
        watch.stage(Stage.RETRIEVE)
        min_score = self._settings.min_score if wanted.min_score is None else wanted.min_score
        enough = max(self._settings.sure_score, min_score)
        exhaustive = wanted.exhaustive or enough >= 1 or min_score == 0
        (outcomes, facts), about = await asyncio.gather(
            self._read(candidates, best, in_key, None if exhaustive else enough),
            self._about(question, linked.links),
        )
        watch.stage(Stage.ASK)
        record.sentences_ended(outcomes)
        if not self._shards.silent:  # else it was not for want of time
            turn.was_read = not any(each.status in (Status.LATE, Status.BUSY) for each in outcomes)
        unread = max(0, sum(map(len, candidates.values())) - len(outcomes))
        covered = coverage(outcomes, unread, unindexed, merged([*unused, *linked.unused, *about.unused]))
        record.left_unread(unread)
        record.went_without(covered.unused)
        refuse_if_none_answered(outcomes, covered)
        groups = merge(outcomes)
        sure = shown(groups, min_score)
        message = None
        if not sure:
            takes_any = bool(outcomes) or await self._retrieval.takes_any(only)
            message = no_sure_answer(groups, covered, min_score, only, takes_any)
        limit = wanted.limit or self._settings.results
        reply = {
            "question": question,
            "found": bool(sure),
            "message": message,
            "concepts": about.concepts,
            "links": about.links,
            "results": [result(group, facts) for group in sure[wanted.offset : wanted.offset + limit]],
            "closest": closest(candidates, sure, facts),
            "total": len(sure),
            "limit": limit,
            "offset": wanted.offset,
            "score": round(sure[0].best.score, 6) if sure else None,
            "coverage": covered.members,
        }
        watch.stage(Stage.MERGE)
        record.replied(found=bool(sure), partial=is_partial(covered))
        return reply | {"took_ms": watch.took_ms, "stages_ms": watch.stages_ms}

    async def _read(
        self,
        candidates: ByShard,
        best: Callable[[Collection[str]], Awaitable[ByShard]],
        in_key: str,
        enough: float | None,
    ) -> tuple[list[Outcome], Facts]:
        """What became of the candidates, and, for those whose shard failed, of as many others that are `best`
        without that shard; facts of the articles of all.

        `enough`: where all of the first candidates are read soon and one of them gives an answer of a greater
        score, the others are not read; else those that do not lie far behind. None: all are read.
        """
        limit_s = self._settings.time_limit_s
        deadline = asyncio.get_running_loop().time() + limit_s

        async def ask(some: ByShard) -> list[Outcome]:
            return await ask_all(self._shards, some, in_key, deadline)

        now, later = parted(candidates, None if enough is None else self._settings.first_candidates)
        async with asyncio.TaskGroup() as group:
            of_articles = group.create_task(self._facts_of(candidates, limit_s))
            asked = [group.create_task(ask(now))]
            if enough is not None:
                done, _ = await asyncio.wait(asked, timeout=limit_s * FIRST_PART)
                if not (done and is_sure(asked[0].result(), enough)):
                    near = not_far_behind(later, candidates, self._settings.max_behind)
                    asked.append(group.create_task(ask(near)))
        outcomes, facts = [each for task in asked for each in task.result()], of_articles.result()
        if failed := shards_that_failed(outcomes):
            others = not_yet_asked(await best(failed), outcomes)
            left_s = max(0.0, deadline - asyncio.get_running_loop().time())
            more, of_more = await asyncio.gather(ask(others), self._facts_of(others, left_s))
            return outcomes + more, {**facts, **of_more}
        return outcomes, facts

    async def _facts_of(self, candidates: ByShard, limit_s: float) -> Facts:
        return await self._articles.get((c.article for each in candidates.values() for c in each), limit_s)

    async def _vector_of(self, question: str) -> Encoded | Unused | None:
        """None: no vectors are used."""
        return await self._vectors.get(question) if self._settings.vector_weight else None

    def _lacking_vectors(self, of_question: Encoded | None) -> set[str]:
        """Shards with sentences that cannot be found by the vector of the question, or by any."""
        if self._settings.vector_weight == 0:
            return set()
        return self._retrieval.lacking_vectors(of_question.encoder if of_question else None)

    async def _linked(self, question: str, only: CorpusFilter) -> Linked:
        if self._knowledge is None or self._settings.graph_weight == 0:
            return Linked({})
        return await self._knowledge.linked(question, only)

    async def _about(self, question: str, known: tuple[Link, ...] | None) -> About:
        return About([], []) if self._knowledge is None else await self._knowledge.about(question, known)


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


def parted(candidates: ByShard, first: int | None) -> tuple[ByShard, ByShard]:
    """The `first` best of them all, and the others. None: all are first."""
    ranked = sorted((-each.score, each.sentencekey) for some in candidates.values() for each in some)
    best = {sentencekey for _, sentencekey in ranked[:first]}
    return (
        {tag: [each for each in some if each.sentencekey in best] for tag, some in candidates.items()},
        {tag: [each for each in some if each.sentencekey not in best] for tag, some in candidates.items()},
    )


def not_far_behind(some: ByShard, candidates: ByShard, max_behind: float) -> ByShard:
    """Those that can still be expected to answer, beside the best of all candidates (`sureness.outlook`)."""
    least = max((outlook(each) for found in candidates.values() for each in found), default=0.0) - max_behind
    return {tag: [each for each in found if outlook(each) >= least] for tag, found in some.items()}


def is_sure(outcomes: Sequence[Outcome], enough: float) -> bool:
    """Whether all were read, and one answers with a score above `enough`."""
    read = all(each.status is Status.ANSWERED for each in outcomes)
    return read and any(group.score > enough for group in merge(outcomes))


def is_partial(covered: Coverage) -> bool:
    """Whether sentences that were asked, or whole shards, are missing."""
    return covered.sentences["answered"] < covered.sentences["asked"] or bool(covered.shards["unindexed"])


def shards_that_failed(outcomes: Sequence[Outcome]) -> set[str]:
    """Those that answered nothing, and did not take their time for it; none when no shard answered."""
    answered = {each.shard for each in outcomes if each.status is Status.ANSWERED}
    failed = {each.shard for each in outcomes if each.status is Status.FAILED}
    return failed - answered if answered else set()


def not_yet_asked(candidates: ByShard, outcomes: Sequence[Outcome]) -> ByShard:
    """Those of the candidates that have no outcome."""
    asked = {each.candidate.sentencekey for each in outcomes}
    return {tag: [c for c in some if c.sentencekey not in asked] for tag, some in candidates.items()}


def refuse_if_none_answered(outcomes: list[Outcome], covered: Coverage) -> None:
    """All late: AllLate; some late and the rest failed: AllLate too, since waiting may help; a full
    queue: TooManyQuestions; else NoShardAnswered. Something answered, or nothing was asked: nothing."""
    if not outcomes or covered.sentences["answered"]:
        return
    counts = Counter(outcome.status for outcome in outcomes)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    detail = f"{len(outcomes)} sentences were asked on {len(covered.shards['asked'])} shards: {said}"
    kinds = ((Status.LATE, AllLate), (Status.BUSY, TooManyQuestions), (Status.FAILED, NoShardAnswered))
    for status, problem in kinds:
        if counts[status]:
            raise problem(detail, coverage=covered.members)
