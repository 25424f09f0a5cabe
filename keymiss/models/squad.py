"""SQuAD-format files: reading, the held-out split by article, sentences of a paragraph, and the metrics.

The format and the metrics are those of SQuAD v1.1 (Rajpurkar et al. 2016): data[].paragraphs[].{context,
qas[].{id, question, answers[].{text, answer_start}}}; a question may have `is_impossible` (v2.0).
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keymiss.corpus.prose import segments

HELD_OUT_SHARE = 0.1  # of the articles of a file; never trained on
CALIBRATION_SHARE = 0.04  # of the articles: not trained on either, for the score's calibration
OFFSET_SLACK_CHARS = 4  # how far from where the file says an answer is looked for
ARTICLES_ENOUGH = 10  # a file with fewer is split by paragraph


class BadFile(ValueError):
    """A file that is not in SQuAD format; the text says where and why."""


@dataclass(frozen=True)
class Answer:
    """`text` is context[start : start + len(text)]."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """First character after the answer."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Question:
    """A question and its answers by different people; none if the paragraph does not answer it."""

    id: str
    question: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Paragraph:
    """A context with its questions; `article` and `number` say where in the file."""

    article: str
    number: int
    context: str
    questions: tuple[Question, ...]


def read(path: Path) -> list[list[Paragraph]]:
    """The articles of a file, each a list of paragraphs. BadFile if it is not in SQuAD format.

    Answers that are not where the file says are left out; so is a question that loses all of its answers so.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path} is not JSON: {error}") from None
    try:
        read_all = [_article(path, number, article) for number, article in enumerate(given["data"])]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"{path} is not in SQuAD format: {type(error).__name__} {error}") from None
    articles = [article for article in read_all if article]  # one without a paragraph is none
    if not any(paragraph.questions for article in articles for paragraph in article):
        raise BadFile(f"{path} has no question")
    return articles


def _article(path: Path, number: int, article: dict[str, Any]) -> list[Paragraph]:
    name = f"{path.stem}-{number}"
    paragraphs = []
    for place, paragraph in enumerate(article["paragraphs"]):
        context = paragraph["context"]
        if not isinstance(context, str) or not context.strip():
            raise BadFile(f"{path}: article {number}, paragraph {place} has no context")
        context.encode()  # UnicodeEncodeError for half of a surrogate pair
        questions = tuple(found for qa in paragraph["qas"] if (found := _question(context, qa)))
        paragraphs.append(Paragraph(name, place, context, questions))
    return paragraphs


def _question(context: str, qa: dict[str, Any]) -> Question | None:
    given = qa.get("answers") or []
    answers = [_answer(context, str(answer["text"]), int(answer["answer_start"])) for answer in given]
    right = tuple(answer for answer in answers if answer is not None)
    text = qa["question"].strip()
    text.encode()
    if not text or (answers and not right):
        return None
    return Question(str(qa["id"]), text, right)


def _answer(context: str, text: str, start: int) -> Answer | None:
    """The answer without blanks around it, where it is: some files are wrong by the blanks they cut.

    The place that the file says is looked at first: a short answer may stand beside it too.
    """
    text = text.strip()
    places = range(max(0, start - OFFSET_SLACK_CHARS), start + OFFSET_SLACK_CHARS + 1)
    right = (at for at in sorted(places, key=lambda at: abs(at - start)) if context.startswith(text, at))
    found = next(right, -1)
    return Answer(text, found) if text and found >= 0 else None


@dataclass(frozen=True)
class Split:
    """The three parts of a file, by article: none is in two of them."""

    train: list[list[Paragraph]]
    calibration: list[list[Paragraph]]
    held_out: list[list[Paragraph]]


def split(articles: list[list[Paragraph]]) -> Split:
    """The split every figure of the project is made with.

    Articles are put in the order of the SHA-256 of their first context; the first tenth is held out, the next
    CALIBRATION_SHARE is for calibration. A file with fewer than ARTICLES_ENOUGH articles (a collection that
    has no articles) is split in the same way by paragraph.
    """
    if len(articles) < ARTICLES_ENOUGH:
        articles = [[paragraph] for article in articles for paragraph in article]
    ordered = sorted(articles, key=lambda article: hashlib.sha256(article[0].context.encode()).digest())
    test = max(1, round(len(ordered) * HELD_OUT_SHARE))
    calibration = round(len(ordered) * CALIBRATION_SHARE)
    return Split(ordered[test + calibration :], ordered[test : test + calibration], ordered[:test])


def sentence_spans(context: str) -> list[tuple[int, int]]:
    """[start, end) characters of the sentences of a paragraph, in order, without blanks around them.

    The corpus's splitter (keymiss.corpus.prose), so that what is trained on looks like what is read.
    """
    spans, at = [], 0
    for segment in segments(context):
        sentence = segment.strip()
        if sentence:
            start = at + segment.index(sentence)
            spans.append((start, start + len(sentence)))
        at += len(segment)
    return spans


ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower case, without ASCII punctuation, the articles a, an, the, and surplus blanks."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, references: Iterable[str]) -> float:
    """1.0 if the answer, normalized, is one of the references, else 0.0. No reference means "no answer"."""
    wanted = [normalized(reference) for reference in references] or [""]
    return float(normalized(answer) in wanted)


def f1(answer: str, references: Iterable[str]) -> float:
    """The greatest F1 of shared words over the references; for no answer 1.0 if both are empty, else 0.0."""
    given = normalized(answer).split()
    return max(_f1(given, normalized(reference).split()) for reference in (list(references) or [""]))


def _f1(given: list[str], wanted: list[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(given), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)
