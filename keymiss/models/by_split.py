"""Questions put to a split reader here, in the form that keymiss.reading.reader gives and takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from keymiss.models import split_reader
from keymiss.models.export import ExportError, Source, calibration_of
from keymiss.models.split_reader import SplitReader
from keymiss.reading.backends.base import ModelError
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor


class SplitModel:
    """A split reader, to be run as a whole one is: the halves are told apart by the token types."""

    @classmethod
    def of(cls, source: Source) -> SplitModel:
        """The one in a folder, float32. ExportError if there is none that can be used."""
        try:
            model = split_reader.load(source.folder).eval()
        except split_reader.SplitReaderError as error:
            raise ExportError(str(error)) from error
        about = About(
            source.name, "float32", source.tokenizer, model.shape.vocabulary, split_reader.MAX_TOKENS,
            calibration_of(source.folder),
        )  # fmt: skip
        return cls(model, about)

    def __init__(self, model: SplitReader, about: About | None = None) -> None:
        self.about, self._model = about, model

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """input_ids, attention_mask, token_type_ids -> start and end logits, and relevance [batch]. Rows of
        one length and one question, as `Reader.inputs` makes them. ModelError if that fails."""
        try:
            device = self._model.span.weight.device
            ids, _, types = (torch.from_numpy(np.array(tensor.array)).to(device) for tensor in inputs)
            first = int((types[0] == 0).sum())
            with torch.inference_mode():
                outputs = self._model(ids[:, :first], ids[:, first:])
            return [Tensor(output.float().cpu().numpy()) for output in outputs]
        except (RuntimeError, IndexError, ValueError) as error:
            raise ModelError(f"the model run failed: {error}") from error
