"""The answer of one sentence to a question: found by runs of the model, and as it is kept and given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keymiss.reading.reader import Inputs, Reader, Sentence
from keymiss.reading.span import Span

Answer = dict[str, Any]
"""What a ``bertspan`` key has, as JSON; docs/commands.md has its fields."""

Logits = NDArray[Any]
"""FLOAT [windows, seq]"""

Run = Callable[[Inputs], Awaitable[Sequence[Logits]]]
"""One run of the model: start and end logits, and relevance [windows] of a model that has it."""

NO_TOKENIZER = """the model's file has no tokenizer, so it was read with that of the worker's KEYMISS_MODEL. \
If the model is of another vocabulary, start the worker with KEYMISS_MODEL=<the model's folder or name>, \
or store the model by keymiss models load --model <folder or name>"""


async def find_answer(reader: Reader, sentence: Sentence, question: str, run: Run) -> Span:
    """Raises what `run` and the reader raise; with the likely reason if the reader's tokenizer is not the
    model's own."""
    try:
        inputs = reader.inputs(question, sentence)
        runs = [await run(part) for part in inputs.runs()]
        return reader.answer(sentence, inputs, *map(np.concatenate, zip(*runs, strict=True)))
    except Exception as error:
        if reader.own_tokenizer:
            raise
        raise ValueError(f"{error} ({NO_TOKENIZER})") from error


def sentence_digest(text: str) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def answer_of(span: Span, sentence: str, model: str, sentencekey: str, question: str) -> Answer:
    """`model`: the model's SHA-256."""
    return {
        "answer": span.text,
        "score": round(span.score, 6),
        "start": span.start,
        "end": span.end,
        "model": model,
        "sentence_digest": sentence_digest(sentence),
        "sentencekey": sentencekey,
        "question": question,
    }


def as_json(answer: Answer) -> str:
    """The value of a ``bertspan`` key."""
    return json.dumps(answer, ensure_ascii=False)


def stored_answer(value: str | bytes | None, sentence: str, model: str) -> Answer | None:
    """The answer in a ``bertspan`` key, if it is of this sentence and this model."""
    try:
        known = json.loads(value or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(known, dict) or not model:
        return None
    same = known.get("sentence_digest") == sentence_digest(sentence) and known.get("model") == model
    return known if same else None
