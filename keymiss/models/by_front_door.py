"""Questions put to /qasearch as a client puts them, of articles that were loaded; what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.models import squad
from keymiss.models.asking import EvaluateError, Item, ms_since
from keymiss.models.by_cluster import Visit
from keymiss.models.by_search import Search, article_and_index
from keymiss.models.loaded_articles import Corpus, SentenceId

EVERYTHING = {"min_score": 0, "limit": 100, "exhaustive": True}  # the most results that may be asked for


@dataclass(frozen=True)
class Answer:
    """One result. `sentence`: the one that it is shown with; `sources`: those that gave this answer, with it.
    `score`: what the threshold is compared with."""

    text: str
    sentence: SentenceId
    sentence_text: str
    sources: frozenset[SentenceId]
    score: float


@dataclass(frozen=True)
class Asked:
    """What came of a question. `right`: the sentences that the expert's answers lie in; `shown`: the results
    as a client gets them, best first; `read`: those of every sentence that was read, however unsure; `late`:
    of `asked` sentences, those without an answer in time; `unused`: signals that it was searched without.
    `problem`: why there is nothing."""

    item: Item
    right: frozenset[SentenceId]
    shown: tuple[Answer, ...] = ()
    read: tuple[Answer, ...] = ()
    asked: int = 0
    late: int = 0
    unused: tuple[str, ...] = ()
    ms: float = 0.0
    problem: str = ""

    @property
    def refused(self) -> bool:
        """There was no answer that the API is sure enough of."""
        return not self.problem and not self.shown

    @property
    def rank(self) -> int:
        """The first result shown whose sentence is right, from 1; 0 if none is."""
        return next((at for at, one in enumerate(self.shown, 1) if one.sentence in self.right), 0)

    @property
    def right_shown(self) -> bool:
        """A right sentence is a source of a result that is shown."""
        return any(self.right & one.sources for one in self.shown)

    @property
    def right_read(self) -> bool:
        """A right sentence was among those that were read."""
        return any(self.right & one.sources for one in self.read)

    @property
    def f1(self) -> float:
        """Of the first answer; 0 if there is none."""
        return squad.f1(self.shown[0].text, self.item.references) if self.shown else 0.0

    def at(self, min_score: float) -> list[Answer]:
        """What would be shown with that threshold."""
        return [one for one in self.read if one.score >= min_score]


def by_front_door(
    search: Search, visit: Visit, corpus: Corpus, only: Callable[[Item], Collection[str]] | None = None
) -> Callable[[Item], Asked]:
    """Asks each question anew, its cached answers removed before; then once more for all that was read.

    `only`: the articles that a question is asked of, by their names; default: all there are.
    """
    before: set[str] = set()

    def ask(item: Item) -> Asked:
        question = " ".join(item.question.question.split())
        forms = {question_in_key(question, ignore_case) for ignore_case in (True, False)}
        if forms & before:
            visit.forget(forms)
        before.update(forms)
        wanted: dict[str, Any] = {} if only is None else {"articles": sorted(only(item))}
        right, began_s = corpus.right(item), time.perf_counter()
        try:
            first = search.reply(question, **wanted)
            ms = ms_since(began_s)
            every = search.reply(question, **wanted, **EVERYTHING)
        except EvaluateError as error:
            return Asked(item, right, problem=str(error))
        covered = first["coverage"]
        sentences = covered["sentences"]
        return Asked(
            item,
            right,
            answers_in(first),
            answers_in(every),
            sentences["asked"],
            sentences["late"] + sentences["failed"],
            tuple(f"{one['signal']} ({one['reason']})" for one in covered["unused"]),
            ms,
        )

    return ask


def answers_in(reply: dict[str, Any]) -> tuple[Answer, ...]:
    """The results of a reply of /qasearch."""
    return tuple(
        Answer(
            one["answer"],
            article_and_index(one["sentencekey"]),
            one["sentence"],
            frozenset(article_and_index(source["sentencekey"]) for source in one["sources"]),
            float(one["score"]),
        )
        for one in reply["results"]
    )
