"""How long finding sentences takes as the corpus grows: a table.

    python scripts/benchmark_retrieval.py squad.json [--size 1000 --size 100000] [--compare]

In this process, with the classes that /qasearch uses, SHARDS shards. The file's real sentences come first;
the rest are made, seeded, from the real sentences' words, each word as often as it is there (so a few words
are in most sentences, as in any text). Their vectors: those of real sentences, turned by as much noise as two
related sentences differ; to encode 100,000 sentences takes minutes and would measure the encoder. The same
questions, with their real vectors, are asked of every size. MB: what the process grew by while the index was
made. "found again": how many of the 20 nearest vectors the HNSW graph finds, against all of them compared.
"""

from __future__ import annotations

import gc
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from keymiss import keys
from keymiss.corpus.prose import split_sentences
from keymiss.models.find_paragraphs import Corpus, Encoding
from keymiss.reading.stored_vector import DIMENSIONS, Encoded, Vector, to_field
from keymiss.retrieval import Mix, ShardIndex
from keymiss.retrieval.across_shards import rank

SHARDS = 4
SIZES = (1_000, 10_000, 100_000)
SEED = 4
A_ARTICLE = 100  # sentences
QUESTIONS = 400
LIMIT = 20  # as KEYMISS_API_CANDIDATES
NOISE = 0.8  # length of what is added to a unit vector: a cosine of 0.78
NEAREST = 20
COMPARED = 50  # questions whose nearest vectors are looked for in all
WAYS = {
    "BM25": Mix(vector_weight=0),
    "vectors": Mix(bm25_weight=0),
    "both": Mix(),
}


@dataclass(frozen=True)
class Made:
    """A corpus: sentences with their vectors [n, 384]."""

    sentences: list[str]
    vectors: Vector


def grown(real: Made, size: int) -> Made:
    """The first `size` sentences: real ones, then made ones."""
    chance = np.random.default_rng(SEED)
    words = np.array([word for sentence in real.sentences for word in sentence.split()])
    lengths = [len(sentence.split()) for sentence in real.sentences]
    sentences = real.sentences[:size]
    more = size - len(sentences)
    for length in chance.choice(lengths, max(more, 0)):
        sentences.append(" ".join(chance.choice(words, length)))
    if more <= 0:
        return Made(sentences, real.vectors[:size])
    noise = chance.standard_normal((more, DIMENSIONS), np.float32) * (NOISE / DIMENSIONS**0.5)
    made = real.vectors[chance.integers(0, len(real.vectors), more)] + noise
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return Made(sentences, np.concatenate((real.vectors, made)))


def indexes_of(made: Made, encoder: bytes) -> dict[str, ShardIndex]:
    """Articles of A_ARTICLE sentences, spread over SHARDS."""
    indexes = {f"s{number}": ShardIndex() for number in range(SHARDS)}
    for start in range(0, len(made.sentences), A_ARTICLE):
        name = f"A{start}"
        tag = f"s{zlib.crc32(name.encode()) % SHARDS}"
        rows = range(start, min(start + A_ARTICLE, len(made.sentences)))
        fields = {b"%d" % (row - start): made.sentences[row].encode() for row in rows}
        vectors = {
            b"%d" % (row - start): to_field(made.sentences[row], made.vectors[row], encoder) for row in rows
        }
        indexes[tag].put(keys.sentence_key(name, tag).encode(), fields, vectors)
    for index in indexes.values():
        index.commit()
    return indexes


def times_ms(
    indexes: dict[str, ShardIndex], questions: Sequence[tuple[str, Encoded]], mix: Mix
) -> list[float]:
    """Of each question, sorted."""
    took = []
    for question, vector in questions:
        began_s = time.perf_counter()
        rank(indexes, question, mix, vector, None, LIMIT, LIMIT)
        took.append((time.perf_counter() - began_s) * 1000)
    return sorted(took)


def found_again(indexes: dict[str, ShardIndex], questions: Sequence[tuple[str, Encoded]]) -> float:
    """The share of the NEAREST vectors of each question that the graphs find."""
    right = wanted = 0
    for index in indexes.values():
        numbers = range(index.vectors())
        for _, vector in questions[:COMPARED]:
            cosines = index.cosines(numbers, vector)
            best = sorted(cosines, key=lambda number: -cosines[number])[:NEAREST]
            right += len({number for number, _ in index.by_vector(vector, Mix().pool)} & set(best))
            wanted += len(best)
    return right / wanted


def resident_mb() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main(
    data: Annotated[Path, typer.Argument(help="a file in SQuAD format")],
    size: Annotated[list[int] | None, typer.Option(help="sentences; may be given again")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="print `found again` too (minutes)")] = False,
) -> None:
    """How long finding sentences takes as the corpus grows: a table."""
    corpus = Corpus.of(data, "A", 1)
    encoding = Encoding()
    sentences = [sentence for texts in corpus.articles.values() for sentence in split_sentences(texts)]
    real = Made(sentences, encoding.sentences(sentences))
    asked = [question for question, _ in corpus.questions[:: max(1, len(corpus.questions) // QUESTIONS)]]
    questions = list(zip(asked, encoding.questions(asked), strict=True))
    table = Table(title=f"retrieval, {SHARDS} shards, {len(questions)} questions, ms", title_justify="left")
    for column in ("sentences", *(f"{way} p50 / p95" for way in WAYS), "indexed a second", "MB"):
        table.add_column(column, justify="right")
    if compare:
        table.add_column("found again", justify="right")
    for many in size or SIZES:
        made = grown(real, many)
        gc.collect()
        before_mb, began_s = resident_mb(), time.perf_counter()
        indexes = indexes_of(made, encoding.mark)
        took_s, grew_mb = time.perf_counter() - began_s, resident_mb() - before_mb
        cells = [f"{many:,}"]
        for mix in WAYS.values():
            times_ms(indexes, questions[:50], mix)  # warm
            took = times_ms(indexes, questions, mix)
            cells.append(f"{took[len(took) // 2]:.1f} / {took[len(took) * 95 // 100]:.1f}")
        cells += [f"{many / took_s:,.0f}", f"{grew_mb:.0f}"]
        if compare:
            cells.append(f"{100 * found_again(indexes, questions):.1f} %")
        table.add_row(*cells)
        print(" | ".join(cells), flush=True)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
