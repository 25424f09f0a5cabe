"""Articles of a SQuAD-format file through the whole system: how often /qasearch is right, and how often it
rightly says that it is not sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from keymiss import keys
from keymiss.models import squad
from keymiss.models.asking import EvaluateError, Item, Part, in_threads, percent
from keymiss.models.by_cluster import ASK_LIMIT_S, Visit, visiting
from keymiss.models.by_front_door import Asked, by_front_door
from keymiss.models.by_search import Search
from keymiss.models.calibrate import auc
from keymiss.models.loaded_articles import Corpus, load
from keymiss.models.tables import show, show_problems

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_ARTICLES = 100  # that a request may name

COLUMNS = {
    "questions": "questions", "right_1": "right @1", "right_5": "@5", "right_shown": "shown", "f1": "F1",
    "refused": "refused", "right_read": "read", "p50_ms": "p50 ms", "p95_ms": "p95 ms",
}  # fmt: skip
THRESHOLD_COLUMNS = {
    "min_score": "min_score", "unanswerable_refused": "unanswerable refused",
    "read_refused": "right sentence read, refused", "right_1": "right @1",
}  # fmt: skip


def with_whole_file(path: Path, part: Part) -> Part:
    """The part with the file's other articles behind its own: they are loaded, and none is asked about."""
    split = squad.split(squad.read(path))
    own = {(article[0].article, article[0].number) for article in part.articles}
    others = [
        article
        for article in (*split.train, *split.calibration, *split.held_out)
        if (article[0].article, article[0].number) not in own
    ]
    return Part(part.name, part.articles + others, part.items)


def front_door(
    url: str, nodes: str, part: Part, refusal: bool, at_once: int, console: Console
) -> dict[str, Any]:
    """Load the part's articles, ask its questions that have an answer, remove all; the figures."""
    items = [item for item in part.items if item.references]
    if not items:
        raise EvaluateError(f"{part.name}: no question has an answer")
    if refusal and len(part.articles) < 2:
        raise EvaluateError(f"{part.name}: one article cannot be put into two halves")
    with (
        visiting(nodes) as visit,
        httpx.Client(base_url=url, verify=False, timeout=ASK_LIMIT_S) as http,  # self-signed
    ):
        search = Search(http)
        search.check()
        competing = sum(1 for _ in visit.scan(f"{keys.SENTENCE_PREFIX}*"))
        with Console(stderr=True).status(f"{part.name}: {len(part.articles)} articles on their way in"):
            corpus = load(visit, part, search)
        visit.will_ask({" ".join(item.question.question.split()) for item in items})
        visit.forget()
        ask = by_front_door(search, visit, corpus)
        asked = in_threads(ask, items, at_once, part.name, torch=False)
        unanswerable = _asked_of_the_other_half(search, visit, corpus, items, at_once) if refusal else []
    show_problems(console, [one.problem for one in (*asked, *unanswerable)])
    sentences = sum(map(len, corpus.sentences.values()))
    found = figures(asked) | {
        "articles": len(corpus.names),
        "sentences": sentences,
        "competing": competing,
        "skipped": len(corpus.skipped),
    }
    if refusal:
        found |= refusals(asked, unanswerable)
    _show(console, part.name, found)
    return found | {"asked": [_told(one) for one in asked]}


def _asked_of_the_other_half(
    search: Search, visit: Visit, corpus: Corpus, items: Sequence[Item], at_once: int
) -> list[Asked]:
    halves = (corpus.names[0::2], corpus.names[1::2])

    def other(item: Item) -> Sequence[str]:
        return halves[1 - item.article % 2][:MOST_ARTICLES]

    visit.forget()
    ask = by_front_door(search, visit, corpus, other)
    return in_threads(ask, items, at_once, "the other half's articles", torch=False)


def figures(asked: Sequence[Asked]) -> dict[str, Any]:
    """Of questions that the corpus answers. Shares in percent of all of them; `lost`: where those were lost
    whose first answer is not right."""
    times = [one.ms for one in asked if not one.problem] or [0.0]
    return {
        "questions": len(asked),
        "right_1": percent([one.rank == 1 for one in asked]),
        "right_5": percent([0 < one.rank <= 5 for one in asked]),
        "right_shown": percent([one.right_shown for one in asked]),
        "f1": 100 * sum(one.f1 for one in asked) / len(asked),
        "refused": percent([one.refused for one in asked]),
        "right_read": percent([one.right_read for one in asked]),
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "lost": dict(Counter(_lost(one) for one in asked if one.rank != 1)),
        "failed": sum(bool(one.problem) for one in asked),
        "sentences_asked": sum(one.asked for one in asked),
        "sentences_late": sum(one.late for one in asked),
        "unused": dict(Counter(signal for one in asked for signal in one.unused)),
    }


def _lost(one: Asked) -> str:
    if one.problem:
        return "not put"
    if not one.right_read:
        return "right sentence not read"
    return "refused" if one.refused else "another sentence first"


def refusals(asked: Sequence[Asked], unanswerable: Sequence[Asked]) -> dict[str, Any]:
    """Of questions that the corpus answers, and the same asked of articles that do not. Shares in percent.

    `auc`: how often a right first answer has a greater score than an unanswerable question's first answer.
    """
    answered = [one for one in asked if not one.problem]
    read = [one for one in answered if one.right_read]
    others = [one for one in unanswerable if not one.problem]
    right = [one.read[0].score for one in answered if one.read and one.read[0].sentence in one.right]
    wrong = [one.read[0].score if one.read else 0.0 for one in others]
    return {
        "unanswerable": len(others),
        "unanswerable_refused": percent([one.refused for one in others]),
        "read_refused": percent([one.refused for one in read]),
        "auc": auc([*right, *wrong], [*[True] * len(right), *[False] * len(wrong)]),
        "thresholds": [
            {
                "min_score": min_score,
                "unanswerable_refused": percent([not one.at(min_score) for one in others]),
                "read_refused": percent([not one.at(min_score) for one in read]),
                "right_1": percent([_right_first(one, min_score) for one in asked]),
            }
            for min_score in THRESHOLDS
        ],
    }


def _right_first(one: Asked, min_score: float) -> bool:
    shown = one.at(min_score)
    return bool(shown) and shown[0].sentence in one.right


def _show(console: Console, name: str, found: dict[str, Any]) -> None:
    show(console, f"{name}: {found['articles']} articles, {found['sentences']} sentences", [found], COLUMNS)
    lost = ", ".join(f"{what} {count}" for what, count in sorted(found["lost"].items()))
    says = [f"First answers that are not right: {lost or 'none'}."]
    if found["competing"]:
        says.append(f"{found['competing']} articles that were loaded before compete with these.")
    if found["skipped"]:
        says.append(f"{found['skipped']} articles are not English, and have no sentences.")
    if found["sentences_late"]:
        says.append(
            f"{found['sentences_late']} of {found['sentences_asked']} sentences were not read within "
            "KEYMISS_API_TIME_LIMIT_S: on a machine that is less busy the figures may be better."
        )
    for signal, count in found["unused"].items():
        says.append(f"{count} questions were searched without {signal}.")
    if "thresholds" in found:
        says.append(
            f"{found['unanswerable_refused']:.1f} % of {found['unanswerable']} questions asked of the other "
            f"half's articles were refused, and {found['read_refused']:.1f} % of those whose right sentence "
            f"was read; AUC of right first answers against the former's {found['auc']:.3f}."
        )
    for line in says:
        console.print(line, markup=False, soft_wrap=True)
    if "thresholds" in found:
        rows = [row | {"min_score": f"{row['min_score']:g}"} for row in found["thresholds"]]
        show(console, "by threshold, %", rows, THRESHOLD_COLUMNS)


def _told(one: Asked) -> dict[str, Any]:
    """A question as --json has it."""
    first = one.read[0] if one.read else None
    return {
        "id": one.item.question.id,
        "question": one.item.question.question,
        "expected": one.item.references,
        "rank": one.rank,
        "refused": one.refused,
        "right_read": one.right_read,
        "f1": one.f1,
        "ms": one.ms,
        "problem": one.problem,
        "first": first and {"answer": first.text, "sentence": first.sentence_text, "score": first.score},
        "right": [
            {"place": place, "answer": answer.text, "sentence": answer.sentence_text, "score": answer.score}
            for place, answer in enumerate(one.read, 1)
            if one.right & answer.sources
        ],
    }
