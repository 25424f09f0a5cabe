"""What the split reader is trained on, tokenized once: passages, questions, and what does not answer them.

For every question of the `train` parts (squad.split): its answers as spans of tokens, the sentences
that come nearest to it by BM25 and hold none of its answers (of its article, and of all files), and near
misses (near_misses.py). All in flat arrays, kept in one file, so that a training begins in seconds.

A quantifier before a number ("less than 5", "about 40 %") is part of the answer, also where the data leaves
it out: without it the number says something else.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from keymiss.corpus.stop_words import STOP_WORDS
from keymiss.models import squad
from keymiss.models.bm25 import Bm25, best
from keymiss.models.near_misses import Mention, Pool, mentions, swapped, words_of

MAX_QUESTION_TOKENS = 48  # nearly none is longer
NEAREST = 6  # sentences kept of the article, and of all files
LOOKED_AT = 16  # of which those are chosen
MISSES = 2  # of each kind for a question
VERSION = 1  # of what is in the file
PUNCTUATION = ".,;:?!()[]-'\"/%"

Ints = NDArray[np.int32]

QUANTIFIER = re.compile(
    r"\b(?:(?:no |not )?(?:less|fewer|more|greater|higher|lower|better|later|earlier) than|up to|at least|"
    r"at most|as (?:many|much|few|little) as|within|over|under|about|around|approximately|roughly|nearly|"
    r"almost|circa)\s+"
    r"(?:the\s+)?(?:(?:US)?[$£€]\s?)?$",
    re.IGNORECASE,
)
BEGINS_WITH_NUMBER = re.compile(
    r"(?:(?:US)?[$£€]\s?)?\d|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|"
    r"forty|fifty|sixty|seventy|eighty|ninety|half|a (?:hundred|thousand|million|dozen|quarter|third))\b",
    re.IGNORECASE,
)


def with_quantifier(context: str, answer: squad.Answer) -> squad.Answer:
    """The answer with the quantifier that stands before its number, if there is one."""
    if not BEGINS_WITH_NUMBER.match(answer.text):
        return answer
    match = QUANTIFIER.search(context, max(0, answer.start - 40), answer.start)
    start = match.start() if match else answer.start
    return squad.Answer(context[start : answer.end], start)


class Ragged:
    """Arrays of several lengths, one behind the other."""

    def __init__(self, values: Ints, ends: NDArray[np.int64]) -> None:
        self.values, self.ends = values, ends

    @classmethod
    def of(cls, arrays: Sequence[Sequence[int] | Ints]) -> Ragged:
        """From the single ones."""
        values = [np.asarray(one, np.int32).reshape(-1) for one in arrays]
        ends = np.cumsum([len(one) for one in values], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, np.int32), *values]), ends)

    def __getitem__(self, number: int) -> Ints:
        first = self.ends[number - 1] if number else 0
        return self.values[first : self.ends[number]]

    def __len__(self) -> int:
        return len(self.ends)


@dataclass(frozen=True)
class Store:
    """`files`: names; all else by number. A question's texts without [CLS] and [SEP].

    passages: token ids; sentences: pairs [first, last) of tokens of each passage, one behind the other.
    questions: token ids; passage_of, file_of: of each question; spans: pairs of its answers' first and last
    tokens; near, far: sentences that do not answer it, nearest first, of its article and of all files;
    asked0, asked1: its near misses (empty: none); said0, said1: those of the sentence that answers it.
    """

    files: list[str]
    passages: Ragged
    sentences: Ragged
    questions: Ragged
    passage_of: Ints
    file_of: Ints
    spans: Ragged
    near: Ragged
    far: Ragged
    asked0: Ragged
    asked1: Ragged
    said0: Ragged
    said1: Ragged

    def __post_init__(self) -> None:
        counts = np.diff(self.sentences.ends, prepend=0) // 2
        object.__setattr__(self, "_passage_of_sentence", np.repeat(np.arange(len(counts)), counts))
        object.__setattr__(self, "_first_sentence", np.cumsum(counts) - counts)

    def sentence(self, number: int) -> tuple[int, int]:
        """The passage of a sentence, and its place among the passage's."""
        passage = int(self._passage_of_sentence[number])  # type: ignore[attr-defined]
        return passage, number - int(self._first_sentence[passage])  # type: ignore[attr-defined]

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        arrays: dict[str, NDArray[np.generic]] = {"files": np.array(self.files)}
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if isinstance(value, Ragged):
                arrays |= {field.name: value.values, f"{field.name}_ends": value.ends}
            else:
                arrays[field.name] = value
        part = path.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Store:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            given = {
                name: Ragged(arrays[name], arrays[f"{name}_ends"])
                if f"{name}_ends" in arrays
                else arrays[name]
                for name in (field.name for field in fields(cls)[1:])
            }
            return cls([str(name) for name in arrays["files"]], **given)  # type: ignore[arg-type]


def holds(text: Ints, answer: Ints) -> bool:
    """Whether these tokens stand in the text, one behind the other."""
    if not len(answer) or len(answer) > len(text):
        return False
    starts = np.flatnonzero(text[: len(text) - len(answer) + 1] == answer[0])
    return any(np.array_equal(text[at : at + len(answer)], answer) for at in starts)


def digest(paths: Sequence[Path], tokenizer: Path, seed: int) -> str:
    """Of everything a store is made of."""
    about = hashlib.sha256(f"{VERSION} {seed}".encode())
    for path in (*paths, tokenizer):
        about.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return about.hexdigest()[:16]


Say = Callable[[str], None]


def build(paths: Sequence[Path], tokenizer: Tokenizer, seed: int, say: Say) -> Store:
    """Read, tokenize, search. Takes minutes. squad.BadFile if a file is bad."""
    return _Building(tokenizer, seed).build(paths, say)


class _Building:
    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer, self._rng = tokenizer, random.Random(seed)
        self._passages: list[squad.Paragraph] = []
        self._ids: list[Ints] = []
        self._sentences: list[list[tuple[int, int]]] = []
        self._chars: list[list[tuple[int, int]]] = []  # of the sentences
        self._article: list[int] = []
        self._asked: list[tuple[int, int, squad.Question, list[tuple[int, int]]]] = []

    def build(self, paths: Sequence[Path], say: Say) -> Store:
        articles = 0
        for number, path in enumerate(paths):
            for article in squad.split(squad.read(path)).train:
                self._article += [articles] * len(article)
                articles += 1
                self._take(number, article)
            say(f"{path.stem}: {len(self._passages)} passages, {len(self._asked)} questions so far")
        questions = self._encoded(question.question for _, _, question, _ in self._asked)
        questions = [ids[:MAX_QUESTION_TOKENS] for ids in questions]
        near, far = self._nearest(questions, say)
        asked, said = self._misses(say)
        return Store(
            [path.stem for path in paths],
            Ragged.of(self._ids),
            Ragged.of([[it for pair in one for it in pair] for one in self._sentences]),
            Ragged.of(questions),
            np.array([passage for _, passage, _, _ in self._asked], np.int32),
            np.array([file for file, _, _, _ in self._asked], np.int32),
            Ragged.of([[it for pair in spans for it in pair] for _, _, _, spans in self._asked]),
            near, far, *(Ragged.of(one) for one in (*asked, *said)),
        )  # fmt: skip

    def _encoded(self, texts: Iterable[str]) -> list[Ints]:
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in found]

    def _take(self, file: int, article: list[squad.Paragraph]) -> None:
        encodings = self._tokenizer.encode_batch([one.context for one in article], add_special_tokens=False)
        for paragraph, encoding in zip(article, encodings, strict=True):
            offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
            tokens, chars = [], []
            for start, end in squad.sentence_spans(paragraph.context):
                first = int(np.searchsorted(offsets[:, 1], start, "right"))
                last = int(np.searchsorted(offsets[:, 0], end))
                if last > first:
                    tokens.append((first, last))
                    chars.append((start, end))
            for question in paragraph.questions:
                answers = [with_quantifier(paragraph.context, answer) for answer in question.answers]
                spans = token_spans(offsets, answers)
                if spans and tokens:
                    self._asked.append((file, len(self._passages), question, spans))
            self._passages.append(paragraph)
            self._ids.append(np.array(encoding.ids, np.int32))
            self._sentences.append(tokens)
            self._chars.append(chars)

    def _nearest(self, questions: list[Ints], say: Say) -> tuple[Ragged, Ragged]:
        texts = [
            ids[first:last]
            for ids, pairs in zip(self._ids, self._sentences, strict=True)
            for first, last in pairs
        ]
        words = {word: self._tokenizer.token_to_id(word) for word in (*STOP_WORDS, *PUNCTUATION)}
        ignored = [token for token in words.values() if token is not None]
        index = Bm25(texts, self._tokenizer.get_vocab_size(), ignored)
        counts = np.array([len(pairs) for pairs in self._sentences])
        article = np.repeat(np.array(self._article), counts)  # of each sentence; in order
        say(f"{len(texts)} sentences, {len(questions)} questions to be searched for")
        passage_of = np.repeat(np.arange(len(counts)), counts)
        same: dict[str, set[int]] = {}  # passages that are asked the same, and may answer it in other words
        for _, passage, question, _ in self._asked:
            same.setdefault(question.question.casefold(), set()).add(passage)
        near: list[list[int]] = []
        far: list[list[int]] = []
        for number, (_, passage, question, spans) in enumerate(self._asked):
            scores = index.scores(questions[number])
            low, high = np.searchsorted(article, [self._article[passage], self._article[passage] + 1])
            answers = [self._ids[passage][first : last + 1] for first, last in spans]
            inside = [int(low) + one for one in best(scores[low:high], LOOKED_AT)]
            scores[low:high] = 0
            for found, kept in ((inside, near), (best(scores, LOOKED_AT), far)):
                clean = [
                    one
                    for one in found
                    if (
                        passage_of[one] == passage
                        or passage_of[one] not in same[question.question.casefold()]
                    )
                    and not any(holds(texts[one], answer) for answer in answers)
                ]
                kept.append(clean[:NEAREST])
            if (number + 1) % 20000 == 0:
                say(f"nearest sentences of {number + 1} questions")
        return Ragged.of(near), Ragged.of(far)

    def _misses(self, say: Say) -> tuple[list[list[Ints]], list[list[Ints]]]:
        rare = Counter(word for one in self._passages for word in words_of(one.context))
        found = [mentions(one.context, rare) for one in self._passages]
        by_article: dict[int, list[Mention]] = {}
        by_file: dict[str, list[Mention]] = {}
        for paragraph, article, some in zip(self._passages, self._article, found, strict=True):
            by_article.setdefault(article, []).extend(some)
            by_file.setdefault(paragraph.article.rsplit("-", 1)[0], []).extend(some)
        near = {article: Pool.of(some) for article, some in by_article.items()}
        far = {file: Pool.of(some) for file, some in by_file.items()}
        asked: list[list[str]] = [[] for _ in range(MISSES)]
        said: list[list[str]] = [[] for _ in range(MISSES)]
        for _, passage, question, _ in self._asked:
            paragraph = self._passages[passage]
            pool = Pool(near[self._article[passage]], far[paragraph.article.rsplit("-", 1)[0]])
            for variant in range(MISSES):
                one, other = self._miss(paragraph, self._chars[passage], question, pool, rare)
                asked[variant].append(one or "")
                said[variant].append(other or "")
        say(f"near misses of {sum(map(bool, asked[0]))} questions and {sum(map(bool, said[0]))} sentences")
        return (
            [[ids[:MAX_QUESTION_TOKENS] for ids in self._encoded(texts)] for texts in asked],
            [self._encoded(texts) for texts in said],
        )

    def _miss(
        self, paragraph: squad.Paragraph, sentences: list[tuple[int, int]], question: squad.Question,
        pool: Pool, rare: Counter[str],
    ) -> tuple[str | None, str | None]:  # fmt: skip
        answer = question.answers[0]
        holding = [(a, b) for a, b in sentences if a < answer.end and b > answer.start]
        if not holding:
            return None, None
        first, last = holding[0][0], holding[-1][1]
        sentence = paragraph.context[first:last]
        inside = [
            (one.start - first, one.end - first)
            for one in question.answers
            if first <= one.start and one.end <= last
        ]
        return swapped(
            question.question, sentence, inside, pool, self._rng, rare, also_not_in=paragraph.context
        )


def token_spans(offsets: NDArray[np.int64], answers: Iterable[squad.Answer]) -> list[tuple[int, int]]:
    """First and last token of each answer; answers of no token are left out."""
    spans = []
    for answer in answers:
        first = int(np.searchsorted(offsets[:, 1], answer.start, "right"))
        last = int(np.searchsorted(offsets[:, 0], answer.end)) - 1
        if first <= last:
            spans.append((first, last))
    return spans
