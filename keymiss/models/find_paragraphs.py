"""How often the paragraph that answers is found: a SQuAD-format file as a corpus, and what is measured on it.

An article of the file is an article. What is ranked are sentences; a paragraph's rank is that of its first.
In a file whose paragraphs are whole articles the sentence is looked for that the answer is in.
"""

from __future__ import annotations

import time
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from keymiss import keys
from keymiss.corpus.prose import sentences_of
from keymiss.models.export import read_back
from keymiss.models.export_encoder import DEFAULT_ENCODER, DEFAULT_ENCODER_FORM, export_encoder
from keymiss.models.forms import ExportError
from keymiss.models.squad import Answer, Paragraph, read, split
from keymiss.reading.encoder import Encoder, in_order
from keymiss.reading.stored_vector import Encoded, Vector, to_field
from keymiss.reading.tensors import Tensor
from keymiss.retrieval import Candidate, Mix, ShardIndex
from keymiss.retrieval.across_shards import rank

RECALL_AT = (1, 5, 20)
RUNS_AT_ONCE = 2
LONG_PARAGRAPH_CHARS = 5000  # COVID-QA's are whole articles

Fields = dict[bytes, bytes]
Places = dict[tuple[str, str], int]  # (article, idx of a sentence) -> its paragraph


PARTS = ("all", "train", "calibration", "held-out")

Right = frozenset[tuple[str, int]]  # (article, its paragraph, or sentence) of those that answer


@dataclass(frozen=True)
class Corpus:
    """`articles`: name -> its paragraphs; `questions`: with what answers, paragraphs or sentences."""

    articles: dict[str, list[str]]
    questions: list[tuple[str, Right]]
    by_sentence: bool = False

    @classmethod
    def of(
        cls,
        path: Path,
        prefix: str = "",
        every: int = 1,
        part: str = PARTS[0],
        by_sentence: bool | None = None,
    ) -> Corpus:
        """A SQuAD-format file: all articles, named prefix and number; every so-manieth question of a part.

        A question that stands at several paragraphs is answered by each of them. `by_sentence`: what answers
        are sentences; default: where paragraphs are long. BadFile.
        """
        found = read(path)
        asked = _paragraphs_of(found, part)
        if by_sentence is None:
            lengths = [len(each.context) for article in found for each in article]
            by_sentence = median(lengths) > LONG_PARAGRAPH_CHARS
        articles: dict[str, list[str]] = {}
        right: dict[str, set[tuple[str, int]]] = {}
        questions: list[str] = []
        for number, paragraphs in enumerate(found):
            name, sentences = f"{prefix}{number}", 0
            articles[name] = [" ".join(paragraph.context.split()) for paragraph in paragraphs]
            for place, paragraph in enumerate(paragraphs):
                texts = sentences_of(articles[name][place])
                for question in paragraph.questions:
                    answers = [sentences + at for at in holding(paragraph.context, texts, question.answers)]
                    where = answers if by_sentence else [place]
                    right.setdefault(question.question, set()).update((name, at) for at in where)
                    if (paragraph.article, paragraph.number) in asked:
                        questions.append(question.question)
                sentences += len(texts)
        return cls(articles, [(one, frozenset(right[one])) for one in questions[::every]], by_sentence)


def _paragraphs_of(articles: list[list[Paragraph]], part: str) -> set[tuple[str, int]]:
    parts = split(articles)
    of = {"train": parts.train, "calibration": parts.calibration, "held-out": parts.held_out}
    return {(each.article, each.number) for article in of.get(part, articles) for each in article}


def holding(context: str, sentences: Sequence[str], answers: Iterable[Answer]) -> list[int]:
    """Which of a paragraph's sentences the answers are in, by their letters: blanks may have been changed."""
    letters = "".join(context.split())
    ends, at = list[int](), 0
    for sentence in sentences:
        own = "".join(sentence.split())
        at = max(at, letters.find(own, at)) + len(own)
        ends.append(at)
    found: set[int] = set()
    for answer in answers:
        first = len("".join(context[: answer.start].split()))
        last = first + len("".join(answer.text.split())) - 1
        found |= set(range(bisect_right(ends, first), min(bisect_right(ends, last) + 1, len(sentences))))
    return sorted(found)


@dataclass(frozen=True)
class Asked:
    """A question with what retrieval is given of it, and where its answer is."""

    question: str
    right: Right
    vector: Encoded | None
    linked: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Hashes:
    """What a shard's hashes hold, by the key of the sentences, and whose paragraph each sentence is."""

    sentences: dict[bytes, Fields] = field(default_factory=dict)
    vectors: dict[bytes, Fields] = field(default_factory=dict)
    paragraph_of: Places = field(default_factory=dict)

    def index(self, neighbours: int | None = None) -> ShardIndex:
        """The shard's index; with a number of neighbours, of words alone."""
        made = ShardIndex() if neighbours is None else ShardIndex(neighbours)
        for key, fields in self.sentences.items():
            made.put(key, fields, self.vectors[key] if neighbours is None else None)
        made.commit()
        return made


class Encoding:
    """The exported encoder in this process, RUNS_AT_ONCE. ExportError if it cannot be had."""

    def __init__(self, model: str = DEFAULT_ENCODER, form: str = DEFAULT_ENCODER_FORM) -> None:
        made, _ = export_encoder(model, form)
        self._model = read_back(made.path, made.backend)
        if self._model.about is None:
            raise ExportError(f"{made.path} says nothing of its tokenizer")
        self._encoder = Encoder.of(self._model.about, made.sha256)
        self.mark = self._encoder.mark

    def sentences(self, texts: Sequence[str]) -> Vector:
        """[texts, 384]"""
        return self._encoded([self._encoder.sentence(text) for text in texts])

    def questions(self, texts: Sequence[str]) -> list[Encoded]:
        """One each."""
        vectors = self._encoded([self._encoder.question(text) for text in texts])
        return [Encoded(self.mark, vector) for vector in vectors]

    def _encoded(self, texts: Sequence[str]) -> Vector:
        batches = list(self._encoder.batches(texts))

        def run(at: int) -> Vector:
            inputs = [Tensor(batches[at].input_ids), Tensor(batches[at].attention_mask)]
            return np.asarray(self._model.run(inputs)[0].array, np.float32)

        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            return in_order(zip(batches, pool.map(run, range(len(batches))), strict=True), len(texts))


def split_here(corpus: Corpus, encoding: Encoding, shards: int) -> dict[str, Hashes]:
    """Shard tag -> what the cluster's functions would have written there; articles go by their name."""
    made = {f"s{number}": Hashes() for number in range(shards)}
    for name, paragraphs in corpus.articles.items():
        tag = f"s{zlib.crc32(name.encode()) % shards}"
        texts, shard = list[str](), made[tag]
        for place, paragraph in enumerate(paragraphs):
            for sentence in sentences_of(paragraph):
                shard.paragraph_of[name, str(len(texts))] = place
                texts.append(sentence)
        key = keys.sentence_key(name, tag).encode()
        shard.sentences[key] = {b"%d" % idx: text.encode() for idx, text in enumerate(texts)}
        vectors = zip(texts, encoding.sentences(texts), strict=True)
        shard.vectors[key] = {b"%d" % idx: to_field(*each, encoding.mark) for idx, each in enumerate(vectors)}
    return made


def all_places(shards: Iterable[Hashes], by_sentence: bool = False) -> Places:
    """Of all shards: of each sentence its paragraph, or with `by_sentence` itself."""
    return {
        place: int(place[1]) if by_sentence else number
        for shard in shards
        for place, number in shard.paragraph_of.items()
    }


def rank_of(found: Sequence[Candidate], places: Places, right: Right) -> int:
    """Of the first that answers, from 1; 0 when none is among those found. A sentence of no known paragraph
    is one of its own."""
    seen: dict[tuple[str, int | str], None] = {}
    for one in found:
        seen.setdefault((one.article, places.get((one.article, one.idx), one.idx)))
    return next((place for place, paragraph in enumerate(seen, 1) if paragraph in right), 0)


@dataclass(frozen=True)
class Row:
    """One way of ranking: recalls of the right paragraph at RECALL_AT, milliseconds a question (median)."""

    way: str
    recall: tuple[float, ...]
    p50_ms: float


def measured(
    way: str,
    indexes: Mapping[str, ShardIndex],
    mix: Mix,
    asked: Sequence[Asked],
    places: Places,
    limit: int | None = None,
) -> Row:
    """Asks every question; at most `limit` sentences are taken of each ranking."""
    ranks, took_ms = [], []
    for one in asked:
        began_s = time.perf_counter()
        ranked = rank(indexes, one.question, mix, one.vector, one.linked, None, limit)
        found = [candidate for _, candidate in ranked]
        took_ms.append((time.perf_counter() - began_s) * 1000)
        ranks.append(rank_of(found, places, one.right))
    recall = tuple(sum(0 < place <= at for place in ranks) / len(ranks) for at in RECALL_AT)
    return Row(way, recall, float(np.median(took_ms)))
