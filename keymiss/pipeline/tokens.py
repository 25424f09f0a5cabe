"""The tensor of a sentence's tokens, and how it is marked with the sentence that it was made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keymiss.reading.stored_vector import text_digest
from keymiss.reading.tensors import Tensor, from_array


def token_tensor(ids: NDArray[np.int64]) -> Tensor:
    """INT64 [1, tokens]."""
    return from_array(ids[np.newaxis])


def is_of(tensor: Tensor, ids: NDArray[np.int64]) -> bool:
    """Whether it has these token ids."""
    return tensor.array.dtype == ids.dtype and np.array_equal(tensor.array.ravel(), ids)


def token_mark(sentence: str) -> str:
    """What ``tokens:<article>:{tag}`` has of a sentence: 16 hex digits."""
    return text_digest(sentence).hex()
