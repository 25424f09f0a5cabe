"""Results, sources and closest passages, as the reply of /qasearch has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keymiss.api.articles.titles import ArticleFacts
from keymiss.api.questions.merge import Answer, Group
from keymiss.keys import SENTENCE_PREFIX
from keymiss.retrieval import Candidate

Facts = Mapping[str, ArticleFacts]

PASSAGES = 5  # Recall@5 of retrieval is 96.2 % (docs/retrieval.md); more would be a page of their own


def result(group: Group, facts: Facts) -> dict[str, Any]:
    """An answer with all its sources."""
    candidate = group.best.candidate
    return _source(group.best, facts) | {
        "bm25": round(candidate.bm25, 4),
        "cosine": None if candidate.cosine is None else round(candidate.cosine, 4),
        "found_by": list(candidate.found_by),
        "sources": [_source(member, facts) for member in group.members],
    }


def closest(
    candidates: Mapping[str, Sequence[Candidate]], sure: Iterable[Group], facts: Facts
) -> list[dict[str, Any]]:
    """The `PASSAGES` sentences that retrieval ranks first, without those of the sure answers."""
    ranked = sorted(
        (each for of_shard in candidates.values() for each in of_shard),
        key=lambda each: (-each.score, each.sentencekey),
    )
    best = ranked[0].score if ranked else 0.0
    answers = {member.candidate.sentencekey for group in sure for member in group.members}
    others = [each for each in ranked if each.sentencekey not in answers]
    return [_passage(each, facts, best) for each in others[:PASSAGES]]


def _passage(candidate: Candidate, facts: Facts, best: float) -> dict[str, Any]:
    about = facts[candidate.article]
    return {
        "sentence": candidate.sentence,
        "sentencekey": f"{SENTENCE_PREFIX}{candidate.sentencekey}",
        "article": candidate.article,
        "title": about.title,
        "year": about.year,
        "retrieval_score": round(candidate.score / best, 6) if best > 0 else 1.0,
        "bm25": round(candidate.bm25, 4),
        "cosine": None if candidate.cosine is None else round(candidate.cosine, 4),
        "found_by": list(candidate.found_by),
    }


def _source(answer: Answer, facts: Facts) -> dict[str, Any]:
    candidate = answer.candidate
    about = facts[candidate.article]
    start, end = answer.span or (None, None)
    return {
        "answer": answer.answer,
        "sentence": candidate.sentence,
        "sentencekey": f"{SENTENCE_PREFIX}{candidate.sentencekey}",
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
