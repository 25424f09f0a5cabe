"""How fast articles go through the whole pipeline, without and with vectors, beside the same work in one
plain process.

    python scripts/benchmark_pipeline.py data/sample <folder with CORD-19 JSON files>
    python scripts/benchmark_pipeline.py --rounds 5 --masters 4 --replicas 1 --api data/sample

Starts a cluster, a worker and (--api) the API with its index on free ports. A round loads all articles by
`keymiss load` with a table of concepts, waits until every shard is idle, and takes them out again. Before
each round the plain process does what a user would write for it: the same splitter, tokenizer, matcher and
encoder in a loop, into dictionaries, with nothing stored. Medians of the rounds; "ratio" is the pipeline's
sentences a second over the plain process's, round by round.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from keymiss import keys  # noqa: E402
from keymiss.cluster.redis_cluster import shards_of  # noqa: E402
from keymiss.corpus.article_file import read_article  # noqa: E402
from keymiss.corpus.concept_matcher import ConceptMatcher  # noqa: E402
from keymiss.corpus.concept_table import read_table  # noqa: E402
from keymiss.corpus.loading import load_files  # noqa: E402
from keymiss.corpus.progress import counts, outcome_of, wait_processed  # noqa: E402
from keymiss.corpus.prose import split_sentences  # noqa: E402
from keymiss.models import load_encoder  # noqa: E402
from keymiss.models.export_encoder import DEFAULT_ENCODER, DEFAULT_ENCODER_FORM, export_encoder  # noqa: E402
from keymiss.reading.backends.onnx import OnnxBackend  # noqa: E402
from keymiss.reading.encoder import Batch, Encoder, in_order  # noqa: E402
from keymiss.reading.reader import default_reader  # noqa: E402
from keymiss.reading.tensors import Tensor  # noqa: E402
from tests.api.processes import ApiProcess  # noqa: E402
from tests.servers import RedisClusterServers, WorkerProcess  # noqa: E402

TIMEOUT_S = 600.0
WITHOUT = ["split.py", "tokenize.py", "concepts.py", "graph.py"]


class PlainProcess:
    """The same work in a loop."""

    def __init__(self, paths: list[Path], concepts: Path) -> None:
        self._paths = paths
        self._matcher = ConceptMatcher(read_table(concepts)[0])
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
                kept[article.name] = [
                    found,
                    self._reader.sentences(found),
                    list(map(self._matcher.ids, found)),
                ]
                if vectors:
                    texts = [self._encoder.sentence(sentence) for sentence in found]
                    batches = list(self._encoder.batches(texts))
                    kept[article.name].append(
                        in_order(zip(batches, pool.map(self._run, batches), strict=True), len(found))
                    )
                sentences += len(found)
        return sentences / (time.perf_counter() - began_s)

    def _run(self, batch: Batch) -> np.ndarray:
        return self._model.run([Tensor(batch.input_ids), Tensor(batch.attention_mask)])[0].array


class System:
    """A cluster with a worker; what was started is stopped at the end of the `with` block."""

    def __init__(self, masters: int, replicas: int, api: bool, paths: list[Path]) -> None:
        self._masters, self._replicas, self._api, self._paths = masters, replicas, api, paths

    def __enter__(self) -> System:
        self._stack = ExitStack()
        self.servers = self._stack.enter_context(
            RedisClusterServers(masters=self._masters, replicas=self._replicas, appendonly=True)
        )
        self._stack.enter_context(WorkerProcess(self.servers))
        if self._api:
            self._stack.enter_context(ApiProcess(self.servers.addresses, wait_indexed=self._masters))
        self.client = self._stack.enter_context(self.servers.client())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def upload(self, *names: str) -> None:
        """Registers functions of gears/."""
        node = self.client.get_primaries()[0]
        for name in names:
            source = (REPO / "gears" / name).read_bytes()
            self.client.execute_command("RG.PYEXECUTE", source, target_nodes=node)

    def load_concepts(self, path: Path) -> None:
        """Stores the table."""
        table, _ = read_table(path)
        for shard in shards_of(self.client):
            self.client.hset(
                keys.concept_table_key(shard.tag), mapping={"sha256": table.digest, "csv": table.csv_text}
            )

    def sentences_per_s(self) -> float:
        """Of one round."""
        began_s = time.perf_counter()
        report = load_files(self.client, self._paths)
        wait_processed(self.client, TIMEOUT_S)
        took_s = time.perf_counter() - began_s
        sentences = outcome_of(self.client, report.names).sentences
        there = counts(self.client).values()
        assert sum(each["tokenized"] for each in there) == sentences, "every sentence has its tensor"
        for name in report.names:
            self.client.delete(keys.paragraphs_key(name))
            self.client.delete(keys.article_key(name))
        wait_processed(self.client, TIMEOUT_S)
        return sentences / took_s


def rounds(table: Table, what: str, plain: PlainProcess, system: System, vectors: bool, n: int) -> None:
    """One row."""
    alone, whole = [], []
    system.sentences_per_s()  # a worker's first round loads scripts and libraries
    for _ in range(n):
        alone.append(plain.sentences_per_s(vectors))
        whole.append(system.sentences_per_s())
    ratios = [w / a for w, a in zip(whole, alone, strict=True)]
    table.add_row(
        what,
        f"{statistics.median(whole):.0f} ({min(whole):.0f}-{max(whole):.0f})",
        f"{statistics.median(alone):.0f}",
        f"{statistics.median(ratios):.2f}",
    )


def main(
    folders: Annotated[list[Path], typer.Argument(help="with articles in the CORD-19 JSON format")],
    count: Annotated[int, typer.Option("--rounds")] = 5,
    masters: int = 4,
    replicas: int = 1,
    concepts: Path = REPO / "data" / "sample" / "concepts.csv",
    api: Annotated[bool, typer.Option("--api", help="the API runs too, and indexes what comes in")] = False,
) -> None:
    """How fast articles go through the whole pipeline, beside the same work in one process."""
    paths = [p for folder in folders for p in sorted(folder.rglob("*.json"))]
    if not paths:
        raise typer.BadParameter("there is no article in these folders")
    nodes = f"{masters} masters, {replicas} replicas each{', API' if api else ''}"
    table = Table("sentences/s, median (least-most)", "whole pipeline", "plain process", "ratio", title=nodes)
    plain = PlainProcess(paths, concepts)
    with System(masters, replicas, api, paths) as system:
        system.load_concepts(concepts)
        system.upload(*WITHOUT)
        rounds(table, "without vectors", plain, system, False, count)
        if load_encoder.main(["--nodes", system.servers.addresses]):
            sys.exit(1)
        system.upload("vectors.py")
        rounds(table, "with vectors", plain, system, True, count)
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
