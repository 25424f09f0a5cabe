"""A reader of BERT-large's shape, 24 layers of 1024, with random weights: what a question costs with it."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keymiss.models.export_reader import exported_files
from scripts.benchmarks.corpora import SAMPLE
from scripts.benchmarks.failure import BenchFailed
from scripts.benchmarks.figures import Results, Row, at_most, beside
from scripts.benchmarks.options import Options
from scripts.benchmarks.readers import ReadingProcess
from scripts.benchmarks.system import System

MEMORY_GB, DISK_GB = 10.0, 8.0
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
LIMITS = {"KEYMISS_API_TIME_LIMIT_S": "25"}  # nginx waits 30 s
MOST_QUESTIONS = 5


class DoesNotFit(BenchFailed):
    """This machine is too small for it."""


def room(folder: Path) -> None:
    """DoesNotFit where there is not enough."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    there = next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("MemAvailable"))
    free = shutil.disk_usage(folder).free / 1e9
    if there < MEMORY_GB or free < DISK_GB:
        raise DoesNotFit(
            f"--large needs {MEMORY_GB:.0f} GB of memory and {DISK_GB:.0f} GB in {folder}; "
            f"there are {there:.1f} and {free:.1f}"
        )


def write_reader(folder: Path, tokenizer: Path) -> None:
    """1.3 GB."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(1)
    shape = BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    BertForQuestionAnswering(shape).save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(tokenizer / name, folder / name)


def full_size(results: Results, options: Options, questions: Iterator[str]) -> None:
    """In float32, on one master."""
    with tempfile.TemporaryDirectory(prefix="keymiss-large-") as name:
        folder = Path(name)
        room(folder)
        write_reader(folder / "large", Path(options.model))
        before = os.environ.get("KEYMISS_VAR")
        os.environ["KEYMISS_VAR"] = name  # the exports go with the folder
        try:
            (file,) = exported_files(str(folder / "large"), "torchscript")
            _measure(results, options, questions, str(folder / "large"), file)
        finally:
            if before is None:
                del os.environ["KEYMISS_VAR"]
            else:
                os.environ["KEYMISS_VAR"] = before


def _measure(results: Results, options: Options, questions: Iterator[str], model: str, file: Path) -> None:
    with (
        System(1, model=model, form="torchscript", api_env=LIMITS) as system,
        ReadingProcess("raw", str(file)) as raw,
    ):
        system.load_articles(sorted(SAMPLE.glob("*.json")))
        system.ask(next(questions))
        took, raws = [], []
        for _ in range(min(MOST_QUESTIONS, options.size.questions)):
            question = next(questions)
            took.append(system.ask(question).ms)
            raws.append(raw.ms(question, system.sentences_read(question)))
    floor = beside("raw forward, 24 x 1024, float32", took, raws)
    limit = 1.2 * floor.value + 15
    goal = at_most(limit, statistics.median(took), f"at most 1.2 x raw + 15 ms: {limit:,.0f} ms")
    what = "fresh question of 20 candidates, 24 layers of 1024, float32"
    results.add(Row.of("large", what, "ms", took, beside=floor, goal=goal))
