"""The two exported halves of a split reader, to be run as a whole reader is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.reader import LOWER, UPPER, About
from keymiss.reading.tensors import Tensor


class HalvesModel:
    """ModelError if the two are not the halves of one reader. Rows are of one length and one question, as
    `Reader.inputs` makes them."""

    about: About | None

    def __init__(self, lower: Model, upper: Model) -> None:
        one, other = lower.about, upper.about
        if one is None or other is None or one.half is None or other.half is None:
            raise ModelError("not the halves of a split reader")
        if (one.half.name, other.half.name) != (LOWER, UPPER) or one.half.pair != other.half.pair:
            raise ModelError("not the lower and the upper half of one reader")
        self.about, self._lower, self._upper = replace(other, half=None), lower, upper

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """input_ids, attention_mask, token_type_ids -> start and end logits, relevance. ModelError."""
        ids, mask, types = (tensor.array for tensor in inputs)
        first = int((types[0] == 0).sum())
        halves = [
            self._lower.run([Tensor(np.ascontiguousarray(one[:, part])) for one in (ids, mask, types)])[
                0
            ].array
            for part in (slice(None, first), slice(first, None))
        ]
        return self._upper.run([Tensor(np.concatenate(halves, 1)), Tensor(mask)])
