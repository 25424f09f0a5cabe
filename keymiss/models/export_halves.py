"""Export a split reader: each half to the forms that a whole reader has, <name>.lower.pt and <name>.upper.pt.

What each takes and gives: split_halves.py. Files, and when they are made again: as export.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from keymiss.models import split_reader
from keymiss.models.export import (
    COMPARED,
    TOLERANCE,
    ExportError,
    Source,
    calibration_of,
    read_back,
    source_digest,
    tokens_of,
)
from keymiss.models.forms import (
    FORMS,
    Form,
    once_a_model,
    onnx_graph,
    quantized,
    save_onnx,
    save_onnx_int8,
    save_torchscript,
)
from keymiss.models.split_halves import HALVES, Halves, LowerHalf, UpperHalf
from keymiss.models.split_reader import MAX_TOKENS, SHORTEST_QUESTION, TEXT_POSITION, SplitReader
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.reader import LOWER, MAX_QUESTION_TOKENS, About, Half
from keymiss.reading.tensors import Tensor

EXAMPLE = (2, 17)  # batch, tokens: others are taken too


def _torchscript(half: Halves, about: str, path: Path) -> None:
    save_torchscript(half, half.examples(*EXAMPLE), about, path)


def _torchscript_bfloat16(half: Halves, about: str, path: Path) -> None:
    small = copy.deepcopy(half).to(torch.bfloat16)
    if isinstance(small, UpperHalf):
        small.kind = torch.bfloat16
    _torchscript(small, about, path)


def _torchscript_int8(half: Halves, about: str, path: Path) -> None:
    _torchscript(quantized(half), about, path)


@once_a_model
def _graph(half: Halves) -> object:
    return onnx_graph(half, half.examples(*EXAMPLE), half.input_names, half.output_names)


def _onnx(half: Halves, about: str, path: Path) -> None:
    save_onnx(_graph(half), about, path)


def _onnx_int8(half: Halves, about: str, path: Path) -> None:
    save_onnx_int8(_graph(half), about, path)


WRITERS: dict[str, Callable[[Halves, str, Path], None]] = {
    "torchscript": _torchscript,
    "torchscript-bfloat16": _torchscript_bfloat16,
    "torchscript-int8": _torchscript_int8,
    "onnx": _onnx,
    "onnx-int8": _onnx_int8,
}
HALF_FORMS: dict[str, Form] = {name: replace(FORMS[name], write=write) for name, write in WRITERS.items()}


Wanted = tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]
"""Inputs (the second is the mask), and what the eager reader gives for them."""


class HalfSource(Source):
    """One half of a split reader to export."""

    forms = HALF_FORMS

    def __init__(self, whole: Source, half: str) -> None:
        super().__init__(whole.model)
        self.half = half
        self._wanted: dict[tuple[int, int], Wanted] = {}

    @cached_property
    def reader(self) -> SplitReader:
        """Both halves, float32. ExportError if there are none that can be used."""
        try:
            return split_reader.load(self.folder).eval()
        except split_reader.SplitReaderError as error:
            raise ExportError(str(error)) from error

    @cached_property
    def eager(self) -> Halves:
        """The half."""
        return HALVES[self.half](self.reader).eval()

    def about(self, precision: str) -> About:
        """What its file says of itself: the same of both halves, but for the half's name."""
        shape = self.reader.shape
        tokens = tokens_of(tokenizers.tokenizer_from(self.tokenizer, self.name))
        if tokens > shape.vocabulary:
            raise ExportError(f"the tokenizer has {tokens} tokens, the model only {shape.vocabulary}")
        max_tokens = min(MAX_TOKENS, shape.positions - TEXT_POSITION + SHORTEST_QUESTION)
        pair = source_digest(self.folder)
        half = Half(self.half, pair, shape.layers, shape.split, shape.width, TEXT_POSITION)
        calibration = calibration_of(self.folder)
        return About(self.name, precision, self.tokenizer, shape.vocabulary, max_tokens, calibration, half)

    def wanted(self, batch: int, seq: int) -> Wanted:
        """Inputs of this size and what the eager reader gives; kept, as every form is compared with it."""
        if (batch, seq) not in self._wanted:
            make = lower_wanted if self.half == LOWER else upper_wanted
            self._wanted[batch, seq] = make(self.reader, batch, seq)
        return self._wanted[batch, seq]

    def examples(self, batch: int, seq: int) -> Sequence[torch.Tensor]:
        """Inputs of the half, of this size."""
        return self.eager.examples(batch, seq)

    def named(self, out: Path, form: str) -> Path:
        """<name>.lower.pt for <name>.pt."""
        suffix = FORMS[form].suffix
        return out.with_name(f"{out.name.removesuffix(suffix)}.{self.half}{suffix}")

    def checked(self, form: str, path: Path) -> float:
        """The greatest difference to what the eager reader gives; ExportError if it is too much."""
        kind, greatest = self.forms[form], 0.0
        try:
            model = read_back(path, kind.backend)
            for batch, seq in COMPARED:
                difference = compare(self.wanted(batch, seq), model)
                if math.isnan(difference) or (kind.precision == "float32" and difference > TOLERANCE):
                    raise ExportError(
                        f"the exported half differs by {difference:.1e} for {batch} x {seq} tokens"
                    )
                greatest = max(greatest, difference)
        except ModelError as error:
            raise ExportError(f"the exported half cannot be run: {error}") from error
        return greatest


def lower_wanted(reader: SplitReader, batch: int, seq: int) -> Wanted:
    """Of texts, or, where they are short enough for them, of questions."""
    text = seq > MAX_QUESTION_TOKENS
    inputs = LowerHalf(reader).examples(batch, seq, text)
    with torch.inference_mode():
        return inputs, (reader.lower(inputs[0], text, inputs[1].bool()),)


def upper_wanted(reader: SplitReader, batch: int, seq: int) -> Wanted:
    """Of states that the lower layers give."""
    ids, mask, _ = LowerHalf(reader).examples(batch, seq)
    first, keep = seq // 3, mask.bool()
    with torch.inference_mode():
        question = reader.lower(ids[:, :first], False, keep[:, :first])
        text = reader.lower(ids[:, first:], True, keep[:, first:])
        return (torch.cat((question, text), 1), mask), reader.upper(question, text, keep)


def compare(wanted: Wanted, model: Model) -> float:
    """The greatest difference of an exported half's outputs, but for those at padding."""
    inputs, eager = wanted
    outputs = model.run([Tensor(one.numpy()) for one in inputs])
    if len(outputs) != len(eager):
        raise ModelError(f"it gives {len(outputs)} outputs, not {len(eager)}")
    keep = inputs[1].bool().numpy()
    pairs = [(one.numpy(), other.array) for one, other in zip(eager, outputs, strict=True)]
    apart = [np.abs(one - other)[keep if one.ndim > 1 else slice(None)].max() for one, other in pairs]
    return float(max(apart))
