"""Reads sentences in a process of its own, in one of several ways: what a question is compared with.

    python reading_process.py WAY PATH

WAY and PATH:
    raw                   the model's file alone: one thread a run, as many runs at once as there are cores;
                          of a split reader "lower,upper", with the sentences' states there already
    transformers          the model's folder; one sentence after the other
    transformers-batched  the folder, or "folder,8" for batches of 8
    onnxruntime           "folder,file"
    haystack              the folder; its TransformersExtractiveReader
Where nothing else is said, batches have the size that is fastest on the first request. All but `raw` count
tokenizing, and finding the answer's place, too.

Each line of standard input is {"question": ..., "sentences": [...]}. `raw` takes with "in_turn": true one
sentence after the other, and with "apart": true each as if its question were another one. Each line gets one:
{"ms": ..., "how": ...}.

Run by another environment's Python for `haystack`: imports nothing else of this folder at the top.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BATCHES = (1, 2, 4, 8, 20)
CORES = len(os.sched_getaffinity(0))
Read = Callable[[str, Sequence[str], bool, bool], tuple[float, str]]
"""Question, sentences, whether one at a time, whether each has a question of its own; returns ms and how."""


def raw(path: str) -> Read:
    """The floor."""
    from concurrent.futures import ThreadPoolExecutor

    from keymiss.models.forms import quiet
    from keymiss.models.load import BACKENDS
    from keymiss.reading.backends.table import backend_table
    from keymiss.reading.reader import Reader

    files = [Path(one) for one in path.split(",")]
    backend = backend_table("torch")[BACKENDS[files[0].suffix]]
    with quiet():
        models = [backend.load(file.read_bytes()) for file in files]
    assert models[-1].about is not None
    reader = Reader.of(models[-1].about)
    threads = ThreadPoolExecutor(CORES, initializer=backend.prepare_thread)
    prepared = _prepared_halves if len(models) > 1 else _prepared

    def read(question: str, sentences: Sequence[str], in_turn: bool, apart: bool) -> tuple[float, str]:
        inputs = [reader.inputs(question, reader.sentence(text)) for text in sentences]
        first, runs = prepared(models, inputs, apart)
        began_s = time.perf_counter()
        if first:
            threads.submit(first).result()
        if in_turn:
            for run in runs:
                threads.submit(run).result()
        else:
            list(threads.map(lambda run: run(), runs))
        return _ms(began_s), f"{1 if in_turn else CORES} threads"

    return read


Run = Callable[[], object]


def _prepared(models: Sequence[Any], inputs: Sequence[Any], apart: bool) -> tuple[Run | None, list[Run]]:
    """What is run before all sentences, and for each, of a whole reader."""
    from keymiss.reading.tensors import Tensor

    (model,) = models

    def run_of(one: Any) -> Run:
        arrays = [Tensor(array) for array in (one.input_ids, one.attention_mask, one.token_type_ids)]
        return lambda: model.run(arrays)

    return None, [run_of(one) for one in inputs]


def _prepared_halves(
    models: Sequence[Any], inputs: Sequence[Any], apart: bool
) -> tuple[Run | None, list[Run]]:
    """The same of a split one: the question's lower half once, or for each; the upper half of each."""
    import numpy as np

    from keymiss.reading.tensors import Tensor

    lower, upper = models
    first = int((inputs[0].token_type_ids[0] == 0).sum())

    def half(one: Any, part: slice) -> list[Tensor]:
        arrays = (one.input_ids, one.attention_mask, one.token_type_ids)
        return [Tensor(np.ascontiguousarray(array[:, part])) for array in arrays]

    question = half(inputs[0], slice(None, first))
    asked = lower.run(question)[0].array

    def run_of(one: Any) -> Run:
        text = lower.run(half(one, slice(first, None)))[0].array
        arrays = [Tensor(np.concatenate((asked.repeat(len(text), 0), text), 1)), Tensor(one.attention_mask)]
        return lambda: (lower.run(question) if apart else None, upper.run(arrays))

    return (None if apart else lambda: lower.run(question)), [run_of(one) for one in inputs]


def transformers(folder: str) -> Read:
    """As somebody writes it first."""
    from scripts.plain_bert_qa import answer, load

    tokenizer, model = load(folder)

    def read(question: str, sentences: Sequence[str], in_turn: bool, apart: bool) -> tuple[float, str]:
        began_s = time.perf_counter()
        for sentence in sentences:
            answer(tokenizer, model, question, sentence)
        return _ms(began_s), "one by one"

    return read


def transformers_batched(path: str) -> Read:
    """Sorted by length, padded."""
    import torch

    from scripts.plain_bert_qa import load

    folder, _, batch = path.partition(",")
    tokenizer, model = load(folder)

    def run(question: str, texts: Sequence[str]) -> None:
        inputs = _tokenized(tokenizer, question, texts, "pt")
        with torch.inference_mode():
            output = model(**inputs)
        _places(output.start_logits.numpy(), output.end_logits.numpy())

    return _batched(run, int(batch or 0))


def onnxruntime(paths: str) -> Read:
    """A session with its own defaults: each run in as many threads as there are cores."""
    import onnxruntime as ort
    from transformers import AutoTokenizer

    folder, _, file = paths.partition(",")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(question: str, texts: Sequence[str]) -> None:
        inputs = _tokenized(tokenizer, question, texts, "np")
        _places(*session.run(None, {name: inputs[name].astype("int64") for name in names}))

    return _batched(run)


def haystack(folder: str) -> Read:
    """Its reader with its own defaults, all sentences given as documents."""
    from haystack import Document
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

    reader = TransformersExtractiveReader(model=folder, device=ComponentDevice.from_str("cpu"))
    reader.warm_up()

    def read(question: str, sentences: Sequence[str], in_turn: bool, apart: bool) -> tuple[float, str]:
        documents = [Document(content=sentence) for sentence in sentences]
        began_s = time.perf_counter()
        reader.run(query=question, documents=documents)
        return _ms(began_s), "its own batching"

    return read


def _tokenized(tokenizer: Any, question: str, texts: Sequence[str], kind: str) -> Any:
    limits = {"truncation": "only_second", "max_length": 512, "padding": True, "return_tensors": kind}
    return tokenizer([question] * len(texts), list(texts), **limits)


def _places(starts: Any, ends: Any) -> None:
    """Where each answer is, as quickly as it can be said."""
    import numpy as np

    joint = np.triu(starts[:, :, None] + ends[:, None, :])
    joint.reshape(len(joint), -1).argmax(1)


def _batched(run: Callable[[str, Sequence[str]], None], batch: int = 0) -> Read:
    """In batches of that size, 0: of the size that is fastest on the first request."""
    best = batch

    def once(question: str, sentences: Sequence[str], size: int) -> float:
        began_s = time.perf_counter()
        ordered = sorted(sentences, key=len)
        for at in range(0, len(ordered), size):
            run(question, ordered[at : at + size])
        return _ms(began_s)

    def read(question: str, sentences: Sequence[str], in_turn: bool, apart: bool) -> tuple[float, str]:
        nonlocal best
        if not best:
            took = {size: min(once(question, sentences, size) for _ in range(3)) for size in BATCHES}
            best = min(took, key=lambda size: took[size])
        return once(question, sentences, best), f"batches of {best}"

    return read


def _ms(began_s: float) -> float:
    return (time.perf_counter() - began_s) * 1000


WAYS: dict[str, Callable[[str], Read]] = {
    "raw": raw,
    "transformers": transformers,
    "transformers-batched": transformers_batched,
    "onnxruntime": onnxruntime,
    "haystack": haystack,
}


def main(way: str, path: str) -> None:
    """Answers lines until there are no more."""
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no reply
    read = WAYS[way](path)
    for line in sys.stdin:
        asked = json.loads(line)
        ways = (asked.get("in_turn", False), asked.get("apart", False))
        ms, how = read(asked["question"], asked["sentences"], *ways)
        print(json.dumps({"ms": ms, "how": how}), file=replies, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
