"""How often retrieval finds the paragraph that answers, and what each of its signals adds.

    python scripts/evaluate_retrieval.py --data squad.json                      # in this process, no cluster
    python scripts/evaluate_retrieval.py --data squad.json --nodes 127.0.0.1:30001   # through a running one

All paragraphs of a file in SQuAD format are the corpus, an article of the file is an article; its questions are
asked. Sentences are ranked, by the classes that /qasearch uses; a paragraph's rank is that of its first sentence.
In this process the articles are spread over SHARDS indexes and the encoder runs here. With --nodes they are
written as articles of a name of their own, the cluster's functions split and encode them, the API's `Retrieval`
follows the shards, the questions' vectors are asked from the shards, and all is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from redis.cluster import RedisCluster
from rich.console import Console
from rich.table import Table

from keymiss import keys
from keymiss.api.question_vector import QuestionVectors
from keymiss.api.settings import ApiSettings, parse_nodes
from keymiss.api.shards import ShardMap
from keymiss.encoder import Encoder, in_order
from keymiss.prose import split_sentences
from keymiss.retrieval import Candidate, Mix, Retrieval, ShardIndex
from keymiss.retrieval.shards import rank
from keymiss.stored_vector import Vector, to_field
from keymiss.worker.backend_onnx import OnnxBackend
from keymiss.worker.tensors import Tensor
from models.export_encoder import export_encoder
from models.load import connect
from models.squad import read

SHARDS = 4
PROCESSED_LIMIT_S = 1800.0
WAIT_S = 0.5
RECALL_AT = (1, 5, 20)
WITHOUT_LIMIT = 1_000

Ranker = Callable[[str, Vector | None], Sequence[Candidate]]


@dataclass(frozen=True)
class Corpus:
    """`articles`: name -> its paragraphs; `questions`: with the (article, paragraph) that answers."""

    articles: dict[str, list[str]]
    questions: list[tuple[str, tuple[str, int]]]

    @classmethod
    def of(cls, path: Path, prefix: str, every: int) -> Corpus:
        """A SQuAD-format file; every so-manieth question of it. BadFile."""
        articles, questions = {}, []
        for number, paragraphs in enumerate(read(path)):
            name = f"{prefix}{number}"
            articles[name] = [" ".join(paragraph.context.split()) for paragraph in paragraphs]
            for place, paragraph in enumerate(paragraphs):
                questions += [(question.question, (name, place)) for question in paragraph.questions]
        return cls(articles, questions[::every])


@dataclass
class Hashes:
    """What a shard's hashes hold, and whose paragraph each sentence is."""

    sentences: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    vectors: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    paragraph_of: dict[tuple[str, str], int] = field(default_factory=dict)  # (article, idx)


def index_of(hashes: Mapping[bytes, Mapping[bytes, bytes]], neighbours: int) -> ShardIndex:
    """Words alone."""
    index = ShardIndex(neighbours)
    for key, fields in hashes.items():
        index.put(key, fields)
    index.commit()
    return index


class Encoding:
    """The exported encoder, run in this process, two runs at once."""

    def __init__(self) -> None:
        made, _ = export_encoder()
        model = OnnxBackend().load(Path(made.path).read_bytes())
        if model.about is None:
            raise SystemExit(f"{made.path} says nothing of its tokenizer")
        self._model, self._encoder = model, Encoder.of(model.about)

    def __call__(self, texts: Sequence[str]) -> Vector:
        """[texts, 384]"""
        batches = list(self._encoder.batches(texts))

        def run(at: int) -> Vector:
            inputs = [Tensor(batches[at].input_ids), Tensor(batches[at].attention_mask)]
            return np.asarray(self._model.run(inputs)[0].array, np.float32)

        with ThreadPoolExecutor(2) as pool:
            return in_order(zip(batches, pool.map(run, range(len(batches))), strict=True), len(texts))


def split_here(corpus: Corpus, encode: Encoding) -> dict[str, Hashes]:
    """Shard -> what the cluster's functions would have written there."""
    shards = {f"s{number}": Hashes() for number in range(SHARDS)}
    for name, paragraphs in corpus.articles.items():
        tag = f"s{zlib.crc32(name.encode()) % SHARDS}"
        shard, texts = shards[tag], list[str]()
        for place, paragraph in enumerate(paragraphs):
            for sentence in split_sentences([paragraph]):
                shard.paragraph_of[name, str(len(texts))] = place
                texts.append(sentence)
        key = keys.sentence_key(name, tag).encode()
        shard.sentences[key] = {b"%d" % idx: text.encode() for idx, text in enumerate(texts)}
        vectors = zip(texts, encode(texts), strict=True)
        shard.vectors[key] = {b"%d" % idx: to_field(*each) for idx, each in enumerate(vectors)}
    return shards


def ranking(indexes: Mapping[str, ShardIndex], mix: Mix, limit: int | None = None) -> Ranker:
    """The sentences of these indexes, best first."""
    return lambda question, vector: rank(indexes, question, mix, vector, None, None, limit)


def paragraph_rank(
    found: Sequence[Candidate], paragraph_of: Mapping[tuple[str, str], int], right: tuple[str, int]
) -> int:
    """From 1; 0 when it is not among those found."""
    seen: dict[tuple[str, int], None] = {}
    for one in found:
        seen.setdefault((one.article, paragraph_of.get((one.article, one.idx), -1)))
    return next((place for place, paragraph in enumerate(seen, 1) if paragraph == right), 0)


@dataclass(frozen=True)
class Row:
    """One way of ranking: recalls of the right paragraph at RECALL_AT, milliseconds a question (median)."""

    way: str
    recall: tuple[float, ...]
    p50_ms: float


def measured(
    way: str,
    ranker: Ranker,
    corpus: Corpus,
    vectors: Sequence[Vector | None],
    paragraph_of: Mapping[tuple[str, str], int],
) -> Row:
    """Asks every question."""
    ranks, took_ms = [], []
    for (question, right), vector in zip(corpus.questions, vectors, strict=True):
        began_s = time.perf_counter()
        found = ranker(question, vector)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        ranks.append(paragraph_rank(found, paragraph_of, right))
    recall = tuple(sum(0 < one <= at for one in ranks) / len(ranks) for at in RECALL_AT)
    return Row(way, recall, float(np.median(took_ms)))


def word_ways(corpus: Corpus, shards: Mapping[str, Hashes]) -> Iterator[tuple[str, Ranker, dict[tuple[str, str], int]]]:
    """What others do: BM25 over whole paragraphs, and over sentences alone."""
    words = Mix(vector_weight=0, graph_weight=0)
    paragraphs: dict[str, dict[bytes, dict[bytes, bytes]]] = {tag: {} for tag in shards}
    own = {}
    for tag, shard in shards.items():
        for key in shard.sentences:
            name = key.decode().removeprefix(keys.SENTENCE_PREFIX).rpartition(":")[0]
            texts = corpus.articles[name]
            paragraphs[tag][key] = {b"%d" % idx: text.encode() for idx, text in enumerate(texts)}
            own |= {(name, str(idx)): idx for idx in range(len(texts))}
    whole = {tag: index_of(each, 0) for tag, each in paragraphs.items()}
    yield "BM25, whole paragraphs", ranking(whole, words), own
    alone = {tag: index_of(shard.sentences, 0) for tag, shard in shards.items()}
    yield "BM25, sentences alone", ranking(alone, words), _all_paragraphs(shards)


def _all_paragraphs(shards: Mapping[str, Hashes]) -> dict[tuple[str, str], int]:
    return {place: number for shard in shards.values() for place, number in shard.paragraph_of.items()}


def offline(corpus: Corpus, per_shard: int) -> Iterator[Row]:
    """In this process."""
    encode = Encoding()
    began_s = time.perf_counter()
    shards = split_here(corpus, encode)
    count = sum(len(fields) for shard in shards.values() for fields in shard.sentences.values())
    took_s = time.perf_counter() - began_s
    print(f"{count} sentences split and encoded in {took_s:.0f} s, {count / took_s:.0f} a second", flush=True)
    indexes = {}
    began_s = time.perf_counter()
    for tag, shard in shards.items():
        index = indexes[tag] = ShardIndex()
        for key, fields in shard.sentences.items():
            index.put(key, fields, shard.vectors[key])
        index.commit()
    print(f"indexed in {time.perf_counter() - began_s:.1f} s", flush=True)
    vectors: list[Vector | None] = list(encode([question for question, _ in corpus.questions]))
    paragraph_of = _all_paragraphs(shards)
    for way, ranker, own in word_ways(corpus, shards):
        yield measured(way, ranker, corpus, vectors, own)
    for way, mix, limit in ways(per_shard):
        yield measured(way, ranking(indexes, mix, limit), corpus, vectors, paragraph_of)


def ways(per_shard: int) -> Iterator[tuple[str, Mix, int | None]]:
    """The signals one by one, and together."""
    yield "BM25, with neighbours", Mix(vector_weight=0, graph_weight=0), None
    yield "vectors, with neighbours", Mix(bm25_weight=0, graph_weight=0), None
    yield "BM25 and vectors", Mix(), None
    for limit in (per_shard, 2 * per_shard, 4 * per_shard):
        yield f"the same, at most {limit} a shard", Mix(), limit


def table_of(rows: Sequence[Row], title: str) -> Table:
    """For people."""
    table = Table(title=title, title_justify="left")
    for column in ("ranked by", *(f"recall@{at}" for at in RECALL_AT), "ms a question, p50"):
        table.add_column(column, justify="left" if column == "ranked by" else "right")
    for row in rows:
        table.add_row(row.way, *(f"{100 * recall:.1f}" for recall in row.recall), f"{row.p50_ms:.1f}")
    return table


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a file in SQuAD format")
    parser.add_argument("--every", type=int, default=1, help="every so-manieth question (default: all)")
    parser.add_argument("--per-shard", type=int, default=ApiSettings().candidates_per_shard)
    options = parser.parse_args()
    corpus = Corpus.of(options.data, f"eval{os.getpid()}-", options.every)
    rows = list(offline(corpus, options.per_shard))
    paragraphs = sum(map(len, corpus.articles.values()))
    title = f"{options.data.name}: {paragraphs} paragraphs, {len(corpus.questions)} questions, recall in percent"
    Console().print(table_of(rows, title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
