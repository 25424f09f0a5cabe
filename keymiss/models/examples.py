"""Training examples: whole paragraphs, the sentence that answers, and sentences that do not.

In the system the reader meets one sentence at a time, and most do not answer: the wrong sentences teach it to
say so, by [CLS] as start and end of the span.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from keymiss.models import squad

MAX_QUESTION_TOKENS = 40
PADDED_AT_MOST = 1.2  # the longest of a group, to the shortest
SINGLE_SENTENCE_SHARE = 0.6  # of the short examples; the others have up to three neighbours of it
HARD_SHARE = 0.5  # of the wrong sentences: the one of the paragraph with the most words of the question

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """One row for the model.

    `starts`, `ends` [seq]: where the answer begins and ends, as shares of the people who answered, each
    summing to 1; all on token 0 ([CLS]) if the text does not answer. `allowed` [seq]: [CLS], and the tokens a
    span may begin or end at.
    """

    ids: Ints
    types: Ints
    starts: Floats
    ends: Floats
    allowed: NDArray[np.bool_]


@dataclass(frozen=True)
class Encoded:
    """A context's token ids [n], their characters [n, 2], and its sentences as [first, last) tokens."""

    ids: Ints
    offsets: Ints
    sentences: list[tuple[int, int]]


@dataclass(frozen=True)
class Source:
    """The questions of one file: (paragraph, question) in order, and the paragraphs of each article."""

    name: str
    pairs: list[tuple[squad.Paragraph, squad.Question]]
    articles: dict[str, list[squad.Paragraph]]


def source(name: str, articles: Sequence[Sequence[squad.Paragraph]]) -> Source:
    """The questions of these articles that have an answer."""
    pairs = [(p, q) for article in articles for p in article for q in p.questions if q.answers]
    by_name: dict[str, list[squad.Paragraph]] = {}
    for article in articles:
        for paragraph in article:
            by_name.setdefault(paragraph.article, []).append(paragraph)
    return Source(name, pairs, by_name)


class Maker:
    """Makes examples of at most `max_tokens`; every draw is from the `random.Random` given."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._cls, self._sep = (np.array([tokenizer.token_to_id(it)], np.int64) for it in ("[CLS]", "[SEP]"))
        self.encode = lru_cache(maxsize=8192)(self._encode)

    def _encode(self, context: str) -> Encoded:
        encoding = self._tokenizer.encode(context, add_special_tokens=False)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        sentences = []
        for start, end in squad.sentence_spans(context):
            first, last = np.searchsorted(offsets[:, 1], start, "right"), np.searchsorted(offsets[:, 0], end)
            if last > first:
                sentences.append((int(first), int(last)))
        return Encoded(np.array(encoding.ids, np.int64), offsets, sentences)

    def paragraph(
        self, paragraph: squad.Paragraph, question: squad.Question, rng: random.Random
    ) -> Example | None:
        """The question and its paragraph, or a window around an answer if that is too long."""
        encoded, head = self.encode(paragraph.context), self._head(question)
        spans = _token_spans(encoded, question)
        if not spans:
            return None
        room = self._max_tokens - len(head) - 1
        first, last = 0, len(encoded.ids)
        if last > room:
            start, end = rng.choice(spans)
            # as long as a paragraph: the other parts of a long article teach little for their price
            width = max(min(room, rng.randint(150, 220)), min(room, end + 1 - start))
            first = rng.randint(max(0, end + 1 - width), max(0, min(start, last - width)))
            last = min(last, first + width)
        return self._example(head, encoded, first, last, spans)

    def right(
        self, paragraph: squad.Paragraph, question: squad.Question, rng: random.Random
    ) -> Example | None:
        """The question and the sentence that answers it, sometimes with its neighbours."""
        encoded, head = self.encode(paragraph.context), self._head(question)
        spans = _token_spans(encoded, question)
        if not spans:
            return None
        start, end = rng.choice(spans)
        holding = [i for i, (a, b) in enumerate(encoded.sentences) if a <= end and b > start]
        if not holding:
            return None
        low, high = holding[0], holding[-1]
        low, high = self._neighbours(low, high, len(encoded.sentences), rng)
        return self._fitting(head, encoded, encoded.sentences[low][0], encoded.sentences[high][1], spans)

    def wrong(
        self, source: Source, paragraph: squad.Paragraph, question: squad.Question, rng: random.Random
    ) -> Example | None:
        """The question and a sentence of the same article that holds none of its answers."""
        head = self._head(question)
        other = paragraph
        if rng.random() > HARD_SHARE:
            other = rng.choice(source.articles[paragraph.article])
        encoded = self.encode(other.context)
        spans = _token_spans(encoded, question) if other is paragraph else []
        answers = {answer.text.casefold() for answer in question.answers}
        without = []
        for place, (a, b) in enumerate(encoded.sentences):
            text = other.context[encoded.offsets[a][0] : encoded.offsets[b - 1][1]].casefold()
            if not any(answer in text for answer in answers) and not any(a <= e and b > s for s, e in spans):
                without.append(place)
        if not without:
            return None
        if rng.random() < HARD_SHARE:
            asked = set(head.tolist())
            low = max(
                without, key=lambda i: len(asked & set(encoded.ids[slice(*encoded.sentences[i])].tolist()))
            )
        else:
            low = rng.choice(without)
        low, high = self._neighbours(low, low, len(encoded.sentences), rng)
        if not set(range(low, high + 1)) <= set(without):
            high = low = rng.choice(without)
        return self._fitting(head, encoded, encoded.sentences[low][0], encoded.sentences[high][1], [])

    def _neighbours(self, low: int, high: int, count: int, rng: random.Random) -> tuple[int, int]:
        if rng.random() > SINGLE_SENTENCE_SHARE:
            more = rng.randint(1, 3)
            before = rng.randint(0, more)
            low, high = max(0, low - before), min(count - 1, high + more - before)
        return low, high

    def _fitting(
        self, head: Ints, encoded: Encoded, first: int, last: int, spans: list[tuple[int, int]]
    ) -> Example | None:
        if last - first > self._max_tokens - len(head) - 1:
            return None
        return self._example(head, encoded, first, last, spans)

    def _head(self, question: squad.Question) -> Ints:
        ids = self._tokenizer.encode(question.question, add_special_tokens=False).ids[:MAX_QUESTION_TOKENS]
        return np.array([*self._cls, *ids, *self._sep], np.int64)

    def _example(
        self, head: Ints, encoded: Encoded, first: int, last: int, spans: list[tuple[int, int]]
    ) -> Example | None:
        ids: Ints = np.concatenate((head, encoded.ids[first:last], self._sep))
        types = np.zeros_like(ids)
        types[len(head) :] = 1
        starts, ends = np.zeros(len(ids), np.float32), np.zeros(len(ids), np.float32)
        allowed = np.zeros(len(ids), bool)
        allowed[0] = allowed[len(head) : -1] = True
        inside = [(s, e) for s, e in spans if s >= first and e < last]
        if spans and not inside:
            return None
        for start, end in inside:
            starts[len(head) + start - first] += 1 / len(inside)
            ends[len(head) + end - first] += 1 / len(inside)
        if not inside:
            starts[0] = ends[0] = 1.0
        return Example(ids, types, starts, ends, allowed)


def _token_spans(encoded: Encoded, question: squad.Question) -> list[tuple[int, int]]:
    """First and last token of each answer; answers of no token are left out."""
    spans = []
    for answer in question.answers:
        first = int(np.searchsorted(encoded.offsets[:, 1], answer.start, "right"))
        last = int(np.searchsorted(encoded.offsets[:, 0], answer.end)) - 1
        if first <= last:
            spans.append((first, last))
    return spans


@dataclass(frozen=True)
class Mix:
    """How many examples of each kind a step has, and from which file, as shares by file name; `late_shares`
    are those of the last `late_part` of the training."""

    paragraphs: int
    right: int
    wrong: int
    shares: dict[str, float]
    late_shares: dict[str, float]
    late_part: float


class Stream:
    """The batches of a training, in an order that the seed alone decides: the same after a resume."""

    def __init__(self, sources: Sequence[Source], maker: Maker, mix: Mix, seed: int) -> None:
        self._sources = {source.name: source for source in sources}
        self._maker, self._mix, self._seed = maker, mix, seed
        self._orders: dict[tuple[str, str], Iterator[int]] = {}

    def _next(self, name: str, kind: str) -> tuple[squad.Paragraph, squad.Question]:
        """The next question of a file for this kind of example: each once before any comes again."""
        source = self._sources[name]

        def order() -> Iterator[int]:
            rng = random.Random(f"{self._seed} {name} {kind}")
            while True:
                numbers = list(range(len(source.pairs)))
                rng.shuffle(numbers)
                yield from numbers

        numbers = self._orders.setdefault((name, kind), order())
        return source.pairs[next(numbers)]

    def batches(self, steps: int, skip: int = 0) -> Iterator[list[Example]]:
        """The examples of steps skip .. steps - 1."""
        for step in range(steps):
            rng = random.Random(f"{self._seed} step {step}")
            late = step >= steps * (1 - self._mix.late_part)
            shares = self._mix.late_shares if late else self._mix.shares
            kinds = ("paragraph",) * self._mix.paragraphs + ("right",) * self._mix.right
            kinds += ("wrong",) * self._mix.wrong
            names = rng.choices(list(shares), list(shares.values()), k=len(kinds))
            drawn = [(name, kind, *self._next(name, kind)) for name, kind in zip(names, kinds, strict=True)]
            if step >= skip:
                made = (self._make(*one, rng) for one in drawn)
                yield [example for example in made if example is not None]

    def _make(
        self, name: str, kind: str, paragraph: squad.Paragraph, question: squad.Question, rng: random.Random
    ) -> Example | None:
        if kind == "wrong":
            return self._maker.wrong(self._sources[name], paragraph, question, rng)
        return getattr(self._maker, kind)(paragraph, question, rng)  # type: ignore[no-any-return]


def collate(examples: Sequence[Example]) -> dict[str, NDArray[np.generic]]:
    """The examples as padded arrays [batch, seq]: ids, mask, types, starts, ends, allowed."""
    longest = max(len(example.ids) for example in examples)

    def padded(arrays: list[NDArray[np.generic]]) -> NDArray[np.generic]:
        return np.stack([np.pad(array, (0, longest - len(array))) for array in arrays])

    return {
        "ids": padded([e.ids for e in examples]),
        "mask": padded([np.ones_like(e.ids) for e in examples]),
        "types": padded([e.types for e in examples]),
        "starts": padded([e.starts for e in examples]),
        "ends": padded([e.ends for e in examples]),
        "allowed": padded([e.allowed for e in examples]),
    }


def micro_batches(examples: Sequence[Example], max_tokens: int) -> Iterator[list[Example]]:
    """The examples in groups of at most `max_tokens` with padding, of lengths so near that it is little."""
    group: list[Example] = []
    for example in sorted(examples, key=lambda e: len(e.ids)):
        length = len(example.ids)
        if group and (length * (len(group) + 1) > max_tokens or length > PADDED_AT_MOST * len(group[0].ids)):
            yield group
            group = []
        group.append(example)
    if group:
        yield group
