"""How fast articles go through the whole pipeline, beside the same work in one plain process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keymiss import keys
from keymiss.corpus.article_file import read_article
from keymiss.corpus.concept_matcher import ConceptMatcher
from keymiss.corpus.concept_table import read_table
from keymiss.corpus.progress import counts, outcome_of, wait_processed
from keymiss.corpus.prose import split_sentences
from keymiss.models.export import Source, is_split
from keymiss.models.export_encoder import DEFAULT_ENCODER, DEFAULT_ENCODER_FORM, export_encoder
from keymiss.reading.backends.onnx import OnnxBackend
from keymiss.reading.encoder import Batch, Encoder, in_order
from keymiss.reading.reader import default_reader
from keymiss.reading.tensors import Tensor
from scripts.benchmarks.corpora import article_files
from scripts.benchmarks.failure import BenchFailed
from scripts.benchmarks.figures import Results, Row, beside
from scripts.benchmarks.options import Options
from scripts.benchmarks.system import CONCEPTS, PROCESS_LIMIT_S, System

WITHOUT_VECTORS = ("split.py", "tokenize.py", "concepts.py", "graph.py")


class PlainProcess:
    """What a user would write for it: splitter, tokenizer, matcher and encoder in a loop, into dictionaries,
    with nothing stored."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._matcher = ConceptMatcher(read_table(CONCEPTS)[0])
        self._reader = default_reader()
        made, _ = export_encoder(DEFAULT_ENCODER, DEFAULT_ENCODER_FORM)
        self._model = OnnxBackend().load(Path(made.path).read_bytes())
        assert self._model.about is not None
        self._encoder = Encoder.of(self._model.about)

    def sentences_per_s(self, vectors: bool) -> float:
        """Of all articles."""
        began_s, sentences = time.perf_counter(), 0
        kept: dict[str, list[object]] = {}
        with ThreadPoolExecutor(2) as pool:
            for path in self._paths:
                article = read_article(path)
                found = split_sentences(article.paragraphs)
                concepts = list(map(self._matcher.ids, found))
                kept[article.name] = [found, self._reader.sentences(found), concepts]
                if vectors:
                    texts = [self._encoder.sentence(sentence) for sentence in found]
                    batches = list(self._encoder.batches(texts))
                    made = zip(batches, pool.map(self._run, batches), strict=True)
                    kept[article.name].append(in_order(made, len(found)))
                sentences += len(found)
        return sentences / (time.perf_counter() - began_s)

    def _run(self, batch: Batch) -> np.ndarray:
        return self._model.run([Tensor(batch.input_ids), Tensor(batch.attention_mask)])[0].array


def ingest(results: Results, options: Options) -> None:
    """A round loads all articles as `keymiss load` does, waits until all shards are idle, removes them."""
    paths = article_files(options.articles)
    plain = PlainProcess(paths)
    with System(
        options.masters, options.replicas, model=options.model, form=options.form, front=False
    ) as system:
        system.load_concepts()
        system.upload(*WITHOUT_VECTORS)
        _rounds(results, options, "without vectors", system, paths, plain, vectors=False)
        system.load_model("keymiss.models.load_encoder")
        system.upload("vectors.py")
        _rounds(results, options, "with vectors", system, paths, plain, vectors=True)
        if is_split(Source(options.model).folder):
            system.upload("states.py")
            _rounds(results, options, "with vectors and states", system, paths, None, vectors=True)


def _rounds(
    results: Results,
    options: Options,
    what: str,
    system: System,
    paths: Sequence[Path],
    plain: PlainProcess | None,
    vectors: bool,
) -> None:
    alone, whole = [], []
    _sentences_per_s(system, paths)  # a worker's first round loads scripts and libraries
    for _ in range(options.size.rounds):
        if plain:
            alone.append(plain.sentences_per_s(vectors))
        whole.append(_sentences_per_s(system, paths))
    compared = beside("the same in one process, nothing stored", whole, alone) if plain else None
    results.add(Row.of("ingest", f"sentences loaded, {what}", "/s", whole, beside=compared))


def _sentences_per_s(system: System, paths: Sequence[Path]) -> float:
    began_s = time.perf_counter()
    report = system.load_articles(paths)
    took_s = time.perf_counter() - began_s
    sentences = outcome_of(system.client, report.names).sentences
    tokenized = sum(each["tokenized"] for each in counts(system.client).values())
    if tokenized != sentences:
        raise BenchFailed(f"{tokenized} of {sentences} sentences have tokens")
    for name in report.names:
        system.client.delete(keys.paragraphs_key(name))
        system.client.delete(keys.article_key(name))
    wait_processed(system.client, PROCESS_LIMIT_S)
    return sentences / took_s
