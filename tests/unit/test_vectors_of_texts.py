"""The encoder's runs for many texts: few at once, their outputs in the texts' order."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from keymiss.pipeline.vectors import RUNS_AT_ONCE, vectors_of
from keymiss.reading.batches import MAX_TEXTS
from keymiss.reading.encoder import Batch, Encoder
from keymiss.reading.stored_vector import DIMENSIONS, Vector
from keymiss.reading.tokenizers import load_tokenizer
from keymiss.resources import PROJECT

ENCODER = Encoder(load_tokenizer(PROJECT / "models" / "encoder" / "tokenizer.json"))


async def test_few_runs_at_once_and_every_text_its_own_vector() -> None:
    running, most = 0, 0

    async def run(batch: Batch) -> Vector:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        lengths = batch.attention_mask.sum(axis=1)
        return np.repeat(lengths[:, np.newaxis], DIMENSIONS, axis=1).astype(np.float32)

    texts = ["word " * (number % 7 + 1) for number in range(5 * MAX_TEXTS)]
    vectors = await vectors_of(ENCODER, texts, run)
    assert vectors[:, 0].tolist() == [number % 7 + 1 + 2 for number in range(len(texts))]
    assert most == RUNS_AT_ONCE


async def test_no_texts_no_run() -> None:
    async def run(batch: Batch) -> Vector:
        raise AssertionError(batch)

    assert (await vectors_of(ENCODER, [], run)).shape == (0, DIMENSIONS)


async def test_a_run_that_fails_fails_all() -> None:
    async def run(batch: Batch) -> Vector:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        await vectors_of(ENCODER, ["one", "two"], run)
