"""The pairs of question and text that the split reader is trained on, and how they are put into batches.

A step takes some passages with up to three of their questions each. Every question is read with its whole
passage, with the sentence that answers it (alone or with neighbours), and with what does not answer it.
Halves that are the same (a passage with its questions, a question with its texts) go through the lower layers
once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keymiss.models.question_store import Store, holds

TOGETHER = 3  # questions of one passage in a step
MAX_TEXT_TOKENS = 320  # of a passage; a longer one is read in a window
WINDOW_TOKENS = (150, 220)  # as a paragraph: the other parts of a long article teach little for their price


class Padding(NamedTuple):
    """Of a bucket of lengths: its longest to its shortest, or, among short ones, the tokens between them."""

    ratio: float = 1.2
    tokens: int = 8


TIGHT = Padding()  # a CPU pays for every token
LOOSE = Padding(1.3, 16)  # a GPU pays for every run

WITH_PASSAGE = 0.7  # of the questions; with the sentence that answers, too
WITH_SENTENCE = 0.7
SECOND_WRONG = 0.5
ALONE = 0.6  # of the sentences; the others have up to three neighbours
MISSED = 0.35  # of the wrong ones are near misses, if the question has any
NEAR = 0.6  # of the other wrong ones are of the same article
WHOLE_WRONG = 0.1  # of the wrong ones are whole passages
FOREIGN = 0.25  # of the questions are read with a text of another passage of the step too

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Question `[CLS] … [SEP]` and text `… [SEP]`. `spans`: first and last tokens of the answers in the text,
    one for each person who answered; none if the text does not answer."""

    question: Ints
    text: Ints
    spans: tuple[tuple[int, int], ...]

    @property
    def cost(self) -> int:
        """About how much work it is, in tokens."""
        return len(self.question) + len(self.text)


class PairMaker:
    """Makes the pairs of a passage's questions; every draw is from the `random.Random` given."""

    def __init__(self, store: Store, cls: int, sep: int) -> None:
        self._store, self._cls, self._sep = store, cls, sep

    def pairs(self, numbers: Sequence[int], rng: random.Random) -> list[Pair]:
        """Of questions of one passage."""
        store, passage = self._store, int(self._store.passage_of[numbers[0]])
        ids, sentences = store.passages[passage], self._sentences(passage)
        low, high = self._window(len(ids), self._spans(numbers[0]), rng)
        made: list[Pair | None] = []
        for number in numbers:
            question = self._head(store.questions[number])
            spans = self._spans(number)
            holding = _holding(sentences, rng.choice(spans))
            if len(sentences) == 1 or not holding:
                made.append(self._pair(question, ids, low, high, spans))
            else:
                if rng.random() < WITH_PASSAGE:
                    made.append(self._pair(question, ids, low, high, spans))
                if rng.random() < WITH_SENTENCE:
                    first, last = _neighbours(holding[0], holding[-1], len(sentences), rng)
                    made.append(self._pair(question, ids, sentences[first][0], sentences[last][1], spans))
            for _ in range(1 + (rng.random() < SECOND_WRONG)):
                made.append(self._wrong(number, question, (low, high), holding, rng))
        return [pair for pair in made if pair is not None]

    def of_step(self, rng: random.Random, groups: Sequence[Sequence[int]]) -> list[list[Pair]]:
        """The pairs of each passage of a step that a Stream has drawn, some with a text of another one."""
        made = [pairs for numbers in groups if (pairs := self.pairs(numbers, rng))]
        if len(made) > 1:
            foreign = [_foreign(pairs, rng.choice(made[at - 1]).text, rng) for at, pairs in enumerate(made)]
            made = [[*pairs, *more] for pairs, more in zip(made, foreign, strict=True)]
        return made

    def _wrong(
        self, number: int, question: Ints, window: tuple[int, int], holding: list[int], rng: random.Random
    ) -> Pair | None:
        """A text that does not answer, or a near miss."""
        store, passage = self._store, int(self._store.passage_of[number])
        ids, sentences = store.passages[passage], self._sentences(passage)
        if rng.random() < MISSED:
            variant = rng.choice("01")
            asked, said = (getattr(store, f"{kind}{variant}")[number] for kind in ("asked", "said"))
            if len(said) and rng.random() < 0.5:
                return self._pair(question, said, 0, len(said), [])
            if len(asked):
                if rng.random() < 0.5 or not holding:
                    return self._pair(self._head(asked), ids, *window, [])
                first, last = sentences[holding[0]][0], sentences[holding[-1]][1]
                return self._pair(self._head(asked), ids, first, last, [])
        near, far = store.near[number], store.far[number]
        kind = near if len(near) and (rng.random() < NEAR or not len(far)) else far
        if not len(kind):
            return None
        nearest = kind[: 1 + rng.randrange(len(kind))].tolist()  # the nearer, the oftener
        other, place = store.sentence(rng.choice(nearest))
        whole, places = store.passages[other], self._sentences(other)
        first, last = _neighbours(place, place, len(places), rng)
        if rng.random() < WHOLE_WRONG and len(whole) <= WINDOW_TOKENS[1]:
            first, last = 0, len(places) - 1
        answers = [store.passages[passage][a : b + 1] for a, b in self._spans(number)]
        if any(holds(whole[places[first][0] : places[last][1]], answer) for answer in answers):
            first = last = place
        return self._pair(question, whole, places[first][0], places[last][1], [])

    def _sentences(self, passage: int) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in self._store.sentences[passage].reshape(-1, 2)]

    def _spans(self, number: int) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in self._store.spans[number].reshape(-1, 2)]

    def _head(self, ids: Ints) -> Ints:
        return np.array([self._cls, *ids, self._sep], np.int32)

    @staticmethod
    def _window(length: int, spans: list[tuple[int, int]], rng: random.Random) -> tuple[int, int]:
        if length <= MAX_TEXT_TOKENS:
            return 0, length
        start, end = rng.choice(spans)
        width = max(rng.randint(*WINDOW_TOKENS), min(MAX_TEXT_TOKENS, end + 1 - start))
        first = rng.randint(max(0, end + 1 - width), max(0, min(start, length - width)))
        return first, min(length, first + width)

    def _pair(
        self, question: Ints, ids: Ints, first: int, last: int, spans: list[tuple[int, int]]
    ) -> Pair | None:
        """None if none of the spans is inside, or the text is too long."""
        inside = tuple((a - first, b - first) for a, b in spans if a >= first and b < last)
        if (spans and not inside) or not 0 < last - first <= MAX_TEXT_TOKENS:
            return None
        return Pair(question, np.append(ids[first:last], np.int32(self._sep)), inside)


def _foreign(pairs: Sequence[Pair], text: Ints, rng: random.Random) -> list[Pair]:
    """Questions of a passage with a text that is not of it."""
    answered = {pair.question.tobytes(): pair for pair in pairs if pair.spans}
    return [
        Pair(pair.question, text, ())
        for pair in answered.values()
        if rng.random() < FOREIGN and not any(holds(text, pair.text[a : b + 1]) for a, b in pair.spans)
    ]


def _holding(sentences: list[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    return [number for number, (a, b) in enumerate(sentences) if a <= span[1] and b > span[0]]


def _neighbours(low: int, high: int, count: int, rng: random.Random) -> tuple[int, int]:
    if rng.random() > ALONE:
        more = rng.randint(1, 3)
        before = rng.randint(0, more)
        low, high = max(0, low - before), min(count - 1, high + more - before)
    return low, high


class Stream:
    """The questions of each step, in an order that the seed alone decides: the same after a resume.

    `shares`: how often a file's questions are taken, by its name. Of each file every question comes once
    before any comes again.
    """

    def __init__(self, store: Store, passages: int, seed: int) -> None:
        self._store, self._passages, self._seed = store, passages, seed
        self._orders: dict[str, Iterator[list[int]]] = {}
        self._of_file = {name: np.flatnonzero(store.file_of == n) for n, name in enumerate(store.files)}
        self._step = 0

    def _order(self, name: str) -> Iterator[list[int]]:
        rng = random.Random(f"{self._seed} {name}")
        passages: dict[int, list[int]] = {}
        for number in self._of_file[name].tolist():
            passages.setdefault(int(self._store.passage_of[number]), []).append(number)
        while True:
            groups = []
            for passage, numbers in passages.items():
                rng.shuffle(numbers)
                many = 1 if len(self._store.passages[passage]) > MAX_TEXT_TOKENS else TOGETHER
                groups += [numbers[at : at + many] for at in range(0, len(numbers), many)]
            rng.shuffle(groups)
            yield from groups

    def group_shares(self, factors: dict[str, float]) -> dict[str, float]:
        """How often a group of each file is drawn: for its questions to come `factors` times as often as
        those of a file that is not named there."""
        shares = {}
        for name, numbers in self._of_file.items():
            counts = np.bincount(self._store.passage_of[numbers])
            groups = sum(-(-int(count) // TOGETHER) for count in counts)
            shares[name] = factors.get(name, 1.0) * groups
        return shares

    def skip(self, steps: int, shares: dict[str, float]) -> None:
        """Go past steps without making their pairs."""
        for _ in range(steps):
            self.drawn(shares)

    def drawn(self, shares: dict[str, float]) -> tuple[random.Random, list[list[int]]]:
        """Of the next step: what its pairs are drawn by, and the questions of each passage."""
        rng = random.Random(f"{self._seed} step {self._step}")
        self._step += 1
        names = rng.choices(list(shares), list(shares.values()), k=self._passages)
        return rng, [next(self._orders.setdefault(name, self._order(name))) for name in names]


# ---- batches


@dataclass(frozen=True)
class Half:
    """Halves of about one length: ids [n, seq], mask [n, seq]."""

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Read:
    """Pairs of about one length: `rows` [n, seq] of the table of lower states (row 0 is padding), mask, and
    what is wanted: starts, ends [n, seq] as shares of the people who answered, `allowed` [n, seq], `answers`
    [n]."""

    rows: NDArray[np.int64]
    mask: NDArray[np.bool_]
    starts: Floats
    ends: Floats
    allowed: NDArray[np.bool_]
    answers: Floats


@dataclass(frozen=True)
class Batch:
    """What one run forward and back takes. The table of lower states is: one row for padding, then the
    tokens, padding too, of all of `questions` and then all of `texts`."""

    questions: list[Half]
    texts: list[Half]
    reads: list[Read]


def buckets(lengths: Sequence[int], padding: Padding = TIGHT) -> Iterator[list[int]]:
    """Numbers, in groups of lengths so near that little is padded."""
    group: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda one: (lengths[one], one)):
        shortest = lengths[group[0]] if group else 0
        if group and lengths[number] > max(padding.ratio * shortest, shortest + padding.tokens):
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def batch_of(pairs: Sequence[Pair], padding: Padding = TIGHT) -> Batch:
    """Each half once, padded in buckets."""
    row = 1
    places: list[dict[bytes, int]] = []
    halves: list[list[Half]] = []
    for given in ([pair.question for pair in pairs], [pair.text for pair in pairs]):
        once = {ids.tobytes(): ids for ids in given}
        keys, arrays = list(once), list(once.values())
        first: dict[bytes, int] = {}
        made = []
        for group in buckets([len(ids) for ids in arrays], padding):
            width = max(len(arrays[one]) for one in group)
            ids, mask = np.zeros((len(group), width), np.int64), np.zeros((len(group), width), np.bool_)
            for line, one in enumerate(group):
                ids[line, : len(arrays[one])], mask[line, : len(arrays[one])] = arrays[one], True
                first[keys[one]] = row + line * width
            row += len(group) * width
            made.append(Half(ids, mask))
        places.append(first)
        halves.append(made)
    costs = [pair.cost for pair in pairs]
    reads = [_read([pairs[one] for one in group], *places) for group in buckets(costs, padding)]
    return Batch(halves[0], halves[1], reads)


def _read(pairs: Sequence[Pair], questions: dict[bytes, int], texts: dict[bytes, int]) -> Read:
    shape = (len(pairs), max(pair.cost for pair in pairs))
    rows, mask = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    starts, ends = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    allowed = np.zeros(shape, np.bool_)
    for line, pair in enumerate(pairs):
        head, cost = len(pair.question), pair.cost
        rows[line, :head] = questions[pair.question.tobytes()] + np.arange(head)
        rows[line, head:cost] = texts[pair.text.tobytes()] + np.arange(len(pair.text))
        mask[line, :cost] = True
        allowed[line, 0] = allowed[line, head : cost - 1] = True
        for start, end in pair.spans:
            starts[line, head + start] += 1 / len(pair.spans)
            ends[line, head + end] += 1 / len(pair.spans)
        if not pair.spans:
            starts[line, 0] = ends[line, 0] = 1
    return Read(rows, mask, starts, ends, allowed, np.array([bool(pair.spans) for pair in pairs], np.float32))


def shared_out(groups: Sequence[Sequence[Pair]], parts: int) -> list[list[Pair]]:
    """The pairs in `parts` of about the same work; a passage's pairs stay together. Always the same way."""
    made: list[list[Pair]] = [[] for _ in range(parts)]
    work = [0] * parts
    for pairs in sorted(groups, key=lambda one: -sum(pair.cost for pair in one)):
        least = min(range(parts), key=lambda part: work[part])
        made[least] += pairs
        work[least] += sum(pair.cost for pair in pairs)
    return [part for part in made if part]
