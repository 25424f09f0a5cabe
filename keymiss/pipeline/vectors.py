"""Vectors of texts by runs of the encoder, and what was made before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from keymiss.pipeline.records import bytes_of, parts
from keymiss.reading.encoder import Batch, Encoder, in_order
from keymiss.reading.stored_vector import MARK_BYTES, Vector

RUNS_AT_ONCE = 2  # of one article: others want the model's threads too

Run = Callable[[Batch], Awaitable[Vector]]
"""One run of the encoder's model: [batch, DIMENSIONS]."""


async def vectors_of(encoder: Encoder, texts: Sequence[str], run: Run) -> Vector:
    """[texts, DIMENSIONS]. Raises what `run` raises."""

    async def done(batch: Batch) -> tuple[Batch, Vector]:
        return batch, await run(batch)

    outputs: list[tuple[Batch, Vector]] = []
    for some in parts(list(encoder.batches(texts)), RUNS_AT_ONCE):
        outputs += await asyncio.gather(*map(done, some))
    return in_order(outputs, len(texts))


def vector_marks(fields: Mapping[str, str | bytes]) -> dict[str, bytes]:
    """Index -> mark of the sentence and the encoder, of what ``vectors:<article>:{tag}`` has."""
    return {idx: bytes_of(field)[:MARK_BYTES] for idx, field in fields.items()}
