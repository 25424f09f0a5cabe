"""How often the paragraph that answers is found: a SQuAD-format file as a corpus, and what is measured on it.

An article of the file is an article. What is ranked are sentences; a paragraph's rank is that of its first.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keymiss import keys
from keymiss.corpus.prose import sentences_of
from keymiss.models.export import read_back
from keymiss.models.export_encoder import export_encoder
from keymiss.models.forms import ExportError
from keymiss.models.squad import read
from keymiss.reading.encoder import Encoder, in_order
from keymiss.reading.stored_vector import Encoded, Vector, to_field
from keymiss.reading.tensors import Tensor
from keymiss.retrieval import Candidate, Mix, ShardIndex
from keymiss.retrieval.across_shards import rank

RECALL_AT = (1, 5, 20)
RUNS_AT_ONCE = 2

Fields = dict[bytes, bytes]
Places = dict[tuple[str, str], int]  # (article, idx of a sentence) -> its paragraph


@dataclass(frozen=True)
class Corpus:
    """`articles`: name -> its paragraphs; `questions`: with the (article, paragraph) that answers."""

    articles: dict[str, list[str]]
    questions: list[tuple[str, tuple[str, int]]]

    @classmethod
    def of(cls, path: Path, prefix: str = "", every: int = 1) -> Corpus:
        """A SQuAD-format file, every so-manieth question; articles are named prefix and number. BadFile."""
        articles: dict[str, list[str]] = {}
        questions: list[tuple[str, tuple[str, int]]] = []
        for number, paragraphs in enumerate(read(path)):
            name = f"{prefix}{number}"
            articles[name] = [" ".join(paragraph.context.split()) for paragraph in paragraphs]
            for place, paragraph in enumerate(paragraphs):
                questions += [(question.question, (name, place)) for question in paragraph.questions]
        return cls(articles, questions[::every])


@dataclass(frozen=True)
class Asked:
    """A question with what retrieval is given of it, and where its answer is."""

    question: str
    right: tuple[str, int]
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

    def __init__(self) -> None:
        made, _ = export_encoder()
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


def all_places(shards: Iterable[Hashes]) -> Places:
    """Of all shards."""
    return {place: number for shard in shards for place, number in shard.paragraph_of.items()}


def paragraph_rank(found: Sequence[Candidate], places: Places, right: tuple[str, int]) -> int:
    """From 1; 0 when it is not among those found. A sentence of no known paragraph is one of its own."""
    seen: dict[tuple[str, int | str], None] = {}
    for one in found:
        seen.setdefault((one.article, places.get((one.article, one.idx), one.idx)))
    return next((place for place, paragraph in enumerate(seen, 1) if paragraph == right), 0)


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
        found = rank(indexes, one.question, mix, one.vector, one.linked, None, limit)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        ranks.append(paragraph_rank(found, places, one.right))
    recall = tuple(sum(0 < place <= at for place in ranks) / len(ranks) for at in RECALL_AT)
    return Row(way, recall, float(np.median(took_ms)))
