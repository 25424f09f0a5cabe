"""Encoding: texts to the inputs of the model that makes vectors, and its outputs back to the texts' order.

The one place for it, as `keymiss.reading.reader` is for answers: the worker's functions, the evaluation
and the tests all encode with an `Encoder`. Its tokenizer travels in the model's file
(`keymiss.reading.reader.About`).

The layout is BERT's for one text: ``[CLS] text [SEP]``. The model (models/export_encoder.py) takes input_ids
and attention_mask, INT64 [batch, seq], and gives FLOAT [batch, 384], each row of unit length. Needs the
`tokenizers` library and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from keymiss.reading import tokenizers
from keymiss.reading.batches import of_like_length
from keymiss.reading.reader import About
from keymiss.reading.stored_vector import DIMENSIONS, Vector, encoder_mark

MAX_TEXT_TOKENS = 128  # what the base model was trained on; the rest of a longer text does not count
MAX_TEXT_CHARS = 4096  # far more than MAX_TEXT_TOKENS are; the rest is not worth tokenizing

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Inputs of one run: `rows` [batch] places of its texts in the list; ids and mask [batch, seq]."""

    rows: list[int]
    input_ids: Ids
    attention_mask: Ids


class Encoder:
    """Tokenizes as one model needs it. Can be used by several threads at once. `mark`: of the model's file,
    b"" if its vectors are not kept."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_tokens: int = MAX_TEXT_TOKENS,
        question_prefix: str = "",
        sentence_prefix: str = "",
        mark: bytes = b"",
    ) -> None:
        self._tokenizer, self._max_tokens = tokenizer, min(max_tokens, MAX_TEXT_TOKENS)
        self._cls, self._sep = _id_of(tokenizer, "[CLS]"), _id_of(tokenizer, "[SEP]")
        self._question_prefix, self._sentence_prefix = question_prefix, sentence_prefix
        self.mark = mark

    @classmethod
    def of(cls, about: About, sha256: str = "") -> Encoder:
        """The encoder for a model's file, and the file's SHA-256. TextError if its tokenizer is none."""
        tokenizer = tokenizers.tokenizer_from(about.tokenizer, about.model)
        prefixes = about.question_prefix, about.sentence_prefix
        return cls(tokenizer, about.max_tokens, *prefixes, encoder_mark(sha256))

    def question(self, text: str) -> str:
        """What is encoded of a question."""
        return self._question_prefix + text

    def sentence(self, text: str) -> str:
        """What is encoded of a sentence."""
        return self._sentence_prefix + text

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Of each text, with [CLS] and [SEP], at most MAX_TEXT_TOKENS."""
        short = [one[:MAX_TEXT_CHARS] for one in texts]
        encodings = self._tokenizer.encode_batch_fast(short, add_special_tokens=False)
        return [[self._cls, *one.ids[: self._max_tokens - 2], self._sep] for one in encodings]

    def batches(self, texts: Sequence[str]) -> Iterator[Batch]:
        """The model's inputs for the texts, those of like length together, so that little is padded."""
        ids = self.token_ids(texts)
        for rows in of_like_length([len(one) for one in ids]):
            yield _batch(rows, [ids[row] for row in rows])

    def encode(self, texts: Sequence[str], run: Callable[[Ids, Ids], Vector]) -> Vector:
        """[texts, DIMENSIONS]; `run` takes ids and mask and gives the model's output."""
        batches = list(self.batches(texts))
        outputs = [run(batch.input_ids, batch.attention_mask) for batch in batches]
        return in_order(zip(batches, outputs, strict=True), len(texts))


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise tokenizers.TextError(f"not a BERT tokenizer: it has no {token}")
    return found


def _batch(rows: list[int], ids: list[list[int]]) -> Batch:
    input_ids = np.zeros((len(ids), max(map(len, ids))), np.int64)
    mask = np.zeros_like(input_ids)
    for row, one in enumerate(ids):
        input_ids[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return Batch(rows, input_ids, mask)


def in_order(done: Iterable[tuple[Batch, Vector]], texts: int) -> Vector:
    """[texts, DIMENSIONS]: the outputs of the batches in the order of the texts. ValueError if one is not
    [batch, DIMENSIONS] or not finite."""
    vectors = np.zeros((texts, DIMENSIONS), np.float32)
    for batch, output in done:
        if output.shape != (len(batch.rows), DIMENSIONS) or not np.isfinite(output).all():
            raise ValueError(f"the encoder gave {output.shape} for a batch of {len(batch.rows)}")
        vectors[batch.rows] = output
    return vectors
