"""What an evaluation asks: the questions of a part of a file, and the figures of the answers."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from keymiss.models import squad
from keymiss.models.squad import Paragraph, Question
from keymiss.models.stopping import Stopping

LOOK_EVERY_S = 0.2  # whether the run is to end
NO_ANSWER_BELOW = 0.5  # a score under it says that the text does not answer
T = TypeVar("T")
R = TypeVar("R")


class EvaluateError(RuntimeError):
    """An evaluation that cannot be made; the text says why and what to do."""


@dataclass(frozen=True)
class Item:
    """One question to put. `article`: the place of its article in the part."""

    article: int
    paragraph: Paragraph
    question: Question

    @property
    def references(self) -> list[str]:
        """The texts of the answers that are right."""
        return [answer.text for answer in self.question.answers]


@dataclass(frozen=True)
class Part:
    """A part of a file, and those of its questions that are asked."""

    name: str
    articles: list[list[Paragraph]]
    items: list[Item]


@dataclass(frozen=True)
class Given:
    """An answer. `problem`: why there is none. `rank`: the first of `results` that is of the right paragraph,
    from 1; 0 if none is (retrieval only)."""

    answer: str
    score: float
    ms: float
    problem: str = ""
    rank: int = 0
    results: int = 0


@dataclass(frozen=True)
class Scores:
    """Figures of one file. `exact`, `f1`: percent of the `questions` that have an answer; `ms`: median of one
    question; `failed`: questions that could not be put, counted as wrong. `unanswerable` questions (SQuAD
    2.0) are apart: `refused` percent of them were given a score below 0.5, as is right."""

    questions: int
    exact: float
    f1: float
    ms: float
    failed: int = 0
    unanswerable: int = 0
    refused: float = 0.0


Way = Callable[[Item], Given]


def part_of(path: Path, part: str = "held-out", limit: int | None = None) -> Part:
    """A part of a file; of more than `limit` questions as many drawn, the same ones every time.

    squad.BadFile if the file is bad, EvaluateError if the part has no question.
    """
    articles = squad.read(path)
    if part != "all":
        articles = getattr(squad.split(articles), part.replace("-", "_"))
    items = [Item(n, p, q) for n, article in enumerate(articles) for p in article for q in p.questions]
    if not items:
        raise EvaluateError(f"{path}: its {part} part has no question")
    if limit is not None and limit < len(items):
        chosen = sorted(random.Random(0).sample(range(len(items)), limit))
        items = [items[i] for i in chosen]
    return Part(path.stem, articles, items)


def scores(items: Sequence[Item], given: Sequence[Given]) -> Scores:
    """The figures of these answers."""
    pairs = list(zip(items, given, strict=True))
    answerable = [(item, one) for item, one in pairs if item.references]
    exact = [squad.exact_match(one.answer, item.references) * (not one.problem) for item, one in answerable]
    shared = [squad.f1(one.answer, item.references) * (not one.problem) for item, one in answerable]
    rest = [one for item, one in pairs if not item.references]
    refused = [not one.problem and one.score < NO_ANSWER_BELOW for one in rest]
    return Scores(
        questions=len(answerable),
        exact=percent(exact),
        f1=percent(shared),
        ms=statistics.median([one.ms for one in given if not one.problem] or [0.0]),
        failed=sum(bool(one.problem) for one in given),
        unanswerable=len(rest),
        refused=percent(refused),
    )


def percent(values: Sequence[float]) -> float:
    """The mean in percent; 0 of none."""
    return 100 * sum(values) / len(values) if values else 0.0


def ms_since(began_s: float) -> float:
    """Milliseconds since a reading of time.perf_counter."""
    return (time.perf_counter() - began_s) * 1000


def in_threads(
    function: Callable[[T], R], given: Sequence[T], threads: int, title: str, torch: bool
) -> list[R]:
    """function of each, in order, on several threads; what has not begun is left when an error ends it.

    torch: each thread runs models, on itself alone. SIGINT and SIGTERM raise KeyboardInterrupt between two
    looks at the answers: raised while a thread starts or is waited for, it breaks the locks of both.
    """
    console = Console(stderr=True)
    with Stopping() as stopped:
        pool = ThreadPoolExecutor(threads, initializer=_one_thread_each if torch else None)
        try:
            futures = [pool.submit(function, one) for one in given]
            with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
                results = [_result(future, stopped) for future in bar.track(futures, description=title)]
        finally:
            pool.shutdown(cancel_futures=True)
    if stopped:
        raise KeyboardInterrupt
    return results


def _result(future: Future[R], stopped: Sequence[int]) -> R:
    while not future.done() and not stopped:
        wait([future], timeout=LOOK_EVERY_S)
    if stopped:
        raise KeyboardInterrupt
    return future.result()


def _one_thread_each() -> None:
    import torch

    torch.set_num_threads(1)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))
