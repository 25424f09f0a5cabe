"""The tensors of a sentence's tokens and of their offsets, and how they are marked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keymiss.reading.reader import Sentence
from keymiss.reading.stored_vector import text_digest
from keymiss.reading.tensors import Tensor, from_array


def token_tensor(ids: NDArray[np.int64]) -> Tensor:
    """INT64 [1, tokens]."""
    return from_array(ids[np.newaxis])


def offsets_tensor(offsets: NDArray[np.int64]) -> Tensor:
    """INT32 [tokens, 2]: first and last character of the word that each token is part of."""
    return from_array(offsets.astype(np.int32))


def token_mark(sentence: str, tokenizer_digest: str) -> str:
    """What ``tokens:<article>:{tag}`` has of a sentence."""
    return f"{text_digest(sentence).hex()} {tokenizer_digest}"


def sentence_in(text: str, ids: Tensor | None, offsets: Tensor | None) -> Sentence | None:
    """The tokenized sentence, of its two tensors; None if there are none, or not of one sentence."""
    if ids is None or offsets is None or ids.array.dtype != np.int64 or offsets.array.dtype != np.int32:
        return None
    if offsets.dims != (ids.array.size - 1, 2):
        return None
    return Sentence(text, ids.array.ravel(), offsets.array.astype(np.int64))
