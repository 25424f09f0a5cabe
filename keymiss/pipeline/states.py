"""States: what the lower half of a split reader makes of a sentence, before any question, and of a question.

A sentence's are kept as INT8 [tokens, width + 4]: a token's numbers by its greatest, and that one's 127th
part, its scale, as the last four bytes (float32). Sentences of like length go through the model together. A
text too long for one run beside any question has none: it is read in windows, which depend on the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keymiss.pipeline.answers import Logits
from keymiss.pipeline.records import parts
from keymiss.reading.batches import of_like_length
from keymiss.reading.reader import MAX_QUESTION_TOKENS, About, Ids, Inputs
from keymiss.reading.stored_vector import text_digest
from keymiss.reading.tensors import Tensor

RUNS_AT_ONCE = 2  # of one article: others want the model's threads too
STEPS = 127  # of INT8, from 0 to the greatest number of a token
SCALE_BYTES = 4
MARK_OF_MODEL = 16  # hex digits of its SHA-256

States = NDArray[np.float32]
"""[tokens, width], or [batch, tokens, width]"""

Lower = Callable[[Ids, Ids, Ids], Awaitable[States]]
"""One run of the lower half: ids, mask and token types [batch, tokens] -> [batch, tokens, width]."""

Upper = Callable[[States, Ids], Awaitable[Sequence[Logits]]]
"""One run of the upper half: states and mask -> start and end logits [batch, tokens], relevance [batch]."""


def state_mark(sentence: str, model: str) -> str:
    """What ``lower:<article>:{tag}`` has of a sentence; `model`: the lower one's SHA-256."""
    return f"{text_digest(sentence).hex()} {model[:MARK_OF_MODEL]}"


def max_state_tokens(about: About) -> int:
    """Of a sentence whose states are kept: as many as fit beside the longest question, with both [SEP]."""
    return about.max_tokens - MAX_QUESTION_TOKENS - 2


def to_tensor(states: States) -> Tensor:
    """For states of one sentence [tokens, width]; see the module's text."""
    scales = np.maximum(np.abs(states).max(1, keepdims=True) / STEPS, np.finfo(np.float32).tiny)
    scales = scales.astype("<f4")
    rounded = np.rint(states / scales).astype(np.int8)
    return Tensor(np.concatenate((rounded, scales.view(np.int8)), 1))


def from_tensor(tensor: Tensor) -> States:
    """[tokens, width]. ValueError if it is none that `to_tensor` gave."""
    array = tensor.array
    if array.dtype != np.int8 or array.ndim != 2 or array.shape[1] <= SCALE_BYTES:
        raise ValueError(f"not states: {tensor}")
    scales = np.ascontiguousarray(array[:, -SCALE_BYTES:]).view("<f4")
    states: States = array[:, :-SCALE_BYTES] * scales
    return states


async def text_states(ids: Sequence[Ids], lower: Lower) -> AsyncIterator[list[tuple[int, States]]]:
    """The states of texts with [SEP]: (place in `ids`, states) of some at a time, the shortest first."""
    for some in parts(list(of_like_length([len(one) for one in ids])), RUNS_AT_ONCE):
        made = await asyncio.gather(*(_run([ids[place] for place in places], lower) for places in some))
        yield [
            pair
            for places, states in zip(some, made, strict=True)
            for pair in zip(places, states, strict=True)
        ]


async def _run(ids: list[Ids], lower: Lower) -> list[States]:
    tokens = np.zeros((len(ids), max(map(len, ids))), np.int64)
    mask = np.zeros_like(tokens)
    for row, one in enumerate(ids):
        tokens[row, : len(one)], mask[row, : len(one)] = one, 1
    states = await lower(tokens, mask, mask)
    return [states[row, : len(one)] for row, one in enumerate(ids)]


@dataclass(frozen=True)
class SplitRun:
    """A run of a split reader as of a whole one. `question` gives the states of ``[CLS] question [SEP]``;
    `text` those of the text, None if they are not kept; `made` is told what was made in their place,
    [windows, tokens, width]."""

    question: Callable[[Ids], Awaitable[States]]
    lower: Lower
    upper: Upper
    text: States | None = None
    made: Callable[[States], None] = lambda made: None

    async def __call__(self, inputs: Inputs) -> Sequence[Logits]:
        """Start and end logits [windows, seq], relevance [windows]."""
        first = int((inputs.token_type_ids[0] == 0).sum())
        texts = inputs.input_ids[:, first:]
        if self.text is not None and texts.shape == (1, len(self.text)):
            batch = self.text[np.newaxis]
        else:
            ones = np.ones_like(texts)
            batch = await self.lower(texts, ones, ones)
            self.made(batch)
        question = await self.question(inputs.input_ids[0, :first])
        both = np.concatenate((np.broadcast_to(question, (len(batch), *question.shape)), batch), 1)
        return await self.upper(both, inputs.attention_mask)
