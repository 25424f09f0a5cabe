"""Questions put to a model here: a Hugging Face folder, or an exported file by the worker's backends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keymiss.models.asking import (
    EvaluateError,
    Given,
    Item,
    Scores,
    Way,
    in_threads,
    ms_since,
    part_of,
    processors,
    scores,
)
from keymiss.models.by_split import SplitModel
from keymiss.models.export import Source, arguments_of, is_split, read_back
from keymiss.models.halves_model import HalvesModel
from keymiss.models.load import BACKENDS
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.reader import LOWER, UPPER, About, Inputs, Reader, Sentence
from keymiss.reading.span import Span
from keymiss.reading.tensors import Tensor

Floats = NDArray[np.float32]


class EagerModel:
    """A Hugging Face model, to be run as the worker's backends run theirs."""

    about: About | None

    def __init__(self, source: Source) -> None:
        self.about, self._model = source.about("float32"), source.eager
        self._takes = arguments_of(self._model)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """input_ids, attention_mask, token_type_ids -> start and end logits. ModelError if that fails."""
        import torch

        try:
            ids, mask, types = (torch.from_numpy(np.array(tensor.array)) for tensor in inputs)
            extra = {"token_type_ids": types} if "token_type_ids" in self._takes else {}
            with torch.inference_mode():
                out = self._model(input_ids=ids, attention_mask=mask, **extra)
            return [Tensor(logits.numpy()) for logits in (out.start_logits, out.end_logits)]
        except (RuntimeError, IndexError, ValueError) as error:
            raise ModelError(f"the model run failed: {error}") from error


def open_model(given: str) -> tuple[Model, Reader]:
    """A folder or a hub's name: the eager model; a file: an exported one. Each with its own reader.

    EvaluateError, ExportError, ModelError or text.TextError if it cannot be used.
    """
    path = Path(given)
    if path.suffix in BACKENDS and not path.is_file():
        raise EvaluateError(f"there is no {path}: keymiss models export makes it")
    model = _exported(path) if path.is_file() else open_folder(Source(given))
    if model.about is None:
        raise EvaluateError(f"{path} does not say which tokenizer it needs: export it again")
    return model, Reader.of(model.about)


def open_folder(source: Source) -> Model:
    """The eager model in a folder, whole or split. ExportError if it cannot be used."""
    return SplitModel.of(source) if is_split(source.folder) else EagerModel(source)


def _exported(path: Path) -> Model:
    if path.suffix not in BACKENDS:
        raise EvaluateError(f"{path} is not an exported model: {' or '.join(BACKENDS)}")
    model = read_back(path, BACKENDS[path.suffix])
    half = model.about.half if model.about else None
    if half is None:
        return model
    files = [path.with_name(path.name.replace(f".{half.name}.", f".{name}.")) for name in (LOWER, UPPER)]
    try:
        return HalvesModel(*(read_back(one, BACKENDS[one.suffix]) for one in files))
    except OSError as error:
        raise EvaluateError(f"{path} is half of a reader, and the other is not there: {error}") from error


def logits_of(model: Model, inputs: Inputs) -> list[Floats]:
    """Start and end logits [windows, seq] of all windows, and relevance [windows] if the model has it."""
    found = []
    for run in inputs.runs():
        arrays = (run.input_ids, run.attention_mask, run.token_type_ids)
        found.append([output.array for output in model.run([Tensor(array) for array in arrays])[:3]])
    return [np.concatenate(outputs) for outputs in zip(*found, strict=True)]


def find(model: Model, reader: Reader, question: str, sentence: Sentence) -> Span:
    """The answer. ValueError or ModelError says why there is none."""
    inputs = reader.inputs(question, sentence)
    return reader.answer(sentence, inputs, *logits_of(model, inputs))


def by_model(model: Model, reader: Reader) -> Way:
    """Puts a question and its paragraph to a model in this process."""

    def ask(item: Item) -> Given:
        began_s = time.perf_counter()
        try:
            span = find(model, reader, item.question.question, reader.sentence(item.paragraph.context))
        except (ValueError, ModelError) as error:
            return Given("", 0.0, ms_since(began_s), str(error))
        return Given(span.text, span.score, ms_since(began_s))

    return ask


def score_file(
    model: Model, reader: Reader, path: Path, limit: int | None = None, threads: int | None = None
) -> Scores:
    """The figures of a model on the held-out part of a file. squad.BadFile if that is bad."""
    part = part_of(path, limit=limit)
    given = in_threads(by_model(model, reader), part.items, threads or processors(), part.name, torch=True)
    return scores(part.items, given)
