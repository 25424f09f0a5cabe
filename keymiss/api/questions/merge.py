"""What came back from the shards, ranked, grouped and counted. No input or output here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keymiss.api.questions.fanout import Outcome
from keymiss.api.questions.given_answer import GivenAnswer
from keymiss.api.questions.sureness import sureness
from keymiss.api.shard_status import Status
from keymiss.api.unused import Unused
from keymiss.retrieval import Candidate

# Signs that mean nothing at an answer's ends. Not "-", "<", ".5" or "%": those change what is said.
QUOTES = "\"'`\u00ab\u00bb\u2018\u2019\u201c\u201d"
OPENING = QUOTES + " ([{"
CLOSING = QUOTES + " )]}.,;:!?\u2014\u2026"
ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of one sentence. ``reader_score``: the reader's, 0 to 1; of a calibrated reader the
    probability that the sentence answers the question.

    ``score``: what the answers are sorted by and the threshold is compared with, 0 to 1 (sureness.py).
    ``span``: characters of the sentence, start and end; None when the answer does not stand in it.
    ``cached``: the answer was there before the question came.
    """

    answer: str
    reader_score: float
    score: float
    candidate: Candidate
    shard: str
    took_ms: float
    span: tuple[int, int] | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The sentences that gave the same answer, best first; never empty."""

    members: tuple[Answer, ...]

    @property
    def best(self) -> Answer:
        """The member that the group is shown as."""
        return self.members[0]

    @property
    def score(self) -> float:
        """The best member's."""
        return self.best.score


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what was asked was answered. A shard is in each list that fits one of its sentences.

    ``unindexed``: shards whose sentences were not read yet, so that nothing could be asked there. ``unused``:
    what the sentences could not be found by.
    """

    sentences: dict[str, int]
    shards: dict[str, list[str]]
    unused: tuple[Unused, ...] = ()

    @property
    def members(self) -> dict[str, Any]:
        """As the reply has it."""
        unused = [asdict(each) for each in self.unused]
        return {"sentences": self.sentences, "shards": self.shards, "unused": unused}


def _answer(outcome: Outcome, given: GivenAnswer) -> Answer:
    return Answer(
        given.answer,
        given.score,
        sureness(given.score, outcome.candidate),
        outcome.candidate,
        outcome.shard,
        outcome.took_ms,
        _span(outcome.candidate.sentence, given),
        outcome.cached,
    )


def _span(sentence: str, given: GivenAnswer) -> tuple[int, int] | None:
    """Where the answer stands in the sentence as retrieval knows it, which may be older or newer than the
    one that was read."""
    start, end = given.start, given.end
    if isinstance(start, int) and isinstance(end, int) and start >= 0 and sentence[start:end] == given.answer:
        return start, end
    at = sentence.find(given.answer)
    return (at, at + len(given.answer)) if at >= 0 else None


def ranked(answers: Iterable[Answer]) -> list[Answer]:
    """Best first. scripts/evaluate_sample.py compares this with the reader alone and BM25 alone."""
    return sorted(answers, key=lambda a: (-a.score, -a.candidate.score, a.candidate.sentencekey))


def merge(outcomes: Iterable[Outcome]) -> list[Group]:
    """The answers of all shards, the same ones together, best first.

    Two answers are the same when they are equal after `bare`; no more is guessed, so "children" and
    "infected children" stay two. An empty answer (the reader saw none in the sentence) is left out. Equal
    scores: the sentence that retrieval liked better, then by sentence key, so that the order is always the
    same.

    A group's score is its best member's, not 1 - product of (1 - score): sentences of one corpus repeat one
    another, so they are no independent witnesses. Measured on the same questions as RETRIEVAL_POWER: 59 and
    267 right first answers by the best member, 58 and 267 by the product or the sum.
    """
    given = ((outcome, outcome.given) for outcome in outcomes if outcome.given is not None)
    answers = (_answer(outcome, each) for outcome, each in given if each.answer.strip())
    groups: dict[str, list[Answer]] = {}
    for answer in ranked(answers):
        groups.setdefault(bare(answer.answer), []).append(answer)
    return [Group(tuple(members)) for members in groups.values()]


def shown(groups: Iterable[Group], min_score: float) -> list[Group]:
    """The groups that are sure enough. keymiss models evaluate front-door --refusal measures it."""
    return [group for group in groups if group.score >= min_score]


def bare(answer: str) -> str:
    """What two answers are compared by: small letters, single blanks, no quotes, brackets or stops at the
    ends, no article (a, an, the) at the beginning. An answer of such signs only stays as it is."""
    text = " ".join(answer.casefold().split())
    while True:
        stripped = text.lstrip(OPENING).rstrip(CLOSING)
        for article in ARTICLES:
            stripped = stripped.removeprefix(article)
        if not stripped or stripped == text:
            return text
        text = stripped


def coverage(
    outcomes: Sequence[Outcome],
    unread: int = 0,
    unindexed: Iterable[str] = (),
    unused: tuple[Unused, ...] = (),
) -> Coverage:
    """Sentences and shards asked, answered, late, failed (busy is failed here); `unread`: sentences that were
    found and not asked."""
    statuses = [(o.shard, Status.FAILED if o.status is Status.BUSY else o.status) for o in outcomes]
    kinds = (Status.ANSWERED, Status.LATE, Status.FAILED)
    sentences = {"asked": len(outcomes)} | {k.value: sum(s is k for _, s in statuses) for k in kinds}
    sentences["unread"] = unread
    shards = {"asked": _unique(shard for shard, _ in statuses)}
    shards |= {k.value: _unique(shard for shard, s in statuses if s is k) for k in kinds}
    shards["unindexed"] = sorted(unindexed)
    return Coverage(sentences, shards, unused)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
