"""An answer is found by runs of one model; a stored one is taken only if it is of that model and sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from keymiss.pipeline.answers import NO_TOKENIZER, answer_of, as_json, find_answer, stored_answer
from keymiss.pipeline.model_version import TRIES, ModelVersion, by_one_version, model_version
from keymiss.reading.reader import WINDOWS_A_RUN, Inputs, Reader
from keymiss.reading.tokenizers import load_tokenizer, tokenizer_path

TEXT = "Among adults, viral transmission is performed mainly by young parents."
QUESTION = "Who performs viral transmission"
OWN = Reader(load_tokenizer(tokenizer_path()))
FOREIGN = Reader(load_tokenizer(tokenizer_path()), own_tokenizer=False)


class Model:
    """Prefers the word "parents"; `runs`: windows of each run."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        (self._parents,) = OWN.sentence("parents").ids[:-1]

    async def __call__(self, inputs: Inputs) -> Sequence[NDArray[np.float32]]:
        self.runs.append(len(inputs.input_ids))
        logits = (inputs.input_ids == self._parents).astype(np.float32) * 9
        return logits, logits


async def fails(_inputs: Inputs) -> Sequence[NDArray[np.float32]]:
    raise RuntimeError("index out of range")


async def test_the_span_of_the_best_logits() -> None:
    span = await find_answer(OWN, OWN.sentence(TEXT), QUESTION, Model())
    assert (span.text, TEXT[span.start : span.end]) == ("parents", "parents")


async def test_a_long_text_is_several_runs() -> None:
    text, model = "Nothing was seen on that day. " * 900 + TEXT, Model()
    span = await find_answer(OWN, OWN.sentence(text), QUESTION, model)
    assert text[span.start : span.end] == span.text == "parents"
    assert len(model.runs) > 1
    assert max(model.runs) == WINDOWS_A_RUN


async def test_a_tokenizer_that_is_not_the_models_is_named_when_it_fails() -> None:
    with pytest.raises(RuntimeError, match="index out of range"):
        await find_answer(OWN, OWN.sentence(TEXT), QUESTION, fails)
    with pytest.raises(ValueError, match="index out of range") as caught:
        await find_answer(FOREIGN, FOREIGN.sentence(TEXT), QUESTION, fails)
    assert NO_TOKENIZER in str(caught.value)


async def test_what_is_stored_is_of_this_sentence_and_this_model() -> None:
    span = await find_answer(OWN, OWN.sentence(TEXT), QUESTION, Model())
    made = answer_of(span, TEXT, "ab" * 32, "A1:{x}:0", QUESTION)
    assert (made["answer"], made["sentencekey"], made["question"]) == ("parents", "A1:{x}:0", QUESTION)
    value = as_json(made)
    assert stored_answer(value, TEXT, "ab" * 32) == made
    assert stored_answer(value, TEXT + " ", "ab" * 32) is None
    assert stored_answer(value, TEXT, "cd" * 32) is None
    assert stored_answer(as_json({**made, "model": ""}), TEXT, "") is None  # the digest is not known yet


@pytest.mark.parametrize("value", [None, "", "null", "7", "[]", "{", b"\xff", "[" * 100_000])
def test_what_is_no_answer(value: str | bytes | None) -> None:
    assert stored_answer(value, TEXT, "ab" * 32) is None


class Reader:
    """Answers all but those given in `replaced`, one list for each time it is asked."""

    def __init__(self, *replaced: list[str]) -> None:
        self._replaced = list(replaced)
        self.asked: list[list[str]] = []

    async def __call__(self, items: Sequence[str]) -> list[str]:
        self.asked.append(list(items))
        again = self._replaced.pop(0)
        return [item for item in items if item in again]


async def test_with_a_model_that_stays_each_is_read_once() -> None:
    reader = Reader([])
    assert await by_one_version(["a", "b"], reader) == []
    assert reader.asked == [["a", "b"]]


async def test_those_during_which_the_model_was_replaced_are_read_again() -> None:
    reader = Reader(["b"], [])
    assert await by_one_version(["a", "b"], reader) == []
    assert reader.asked == [["a", "b"], ["b"]]


async def test_an_error_of_its_own_is_raised() -> None:
    async def fails(_items: Sequence[str]) -> list[str]:
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index out of range"):
        await by_one_version(["a"], fails)


async def test_a_model_that_is_always_replaced_is_given_up() -> None:
    reader = Reader(*[["a"]] * TRIES)
    assert await by_one_version(["a", "b"], reader) == ["a"]
    assert reader.asked == [["a", "b"], *[["a"]] * (TRIES - 1)]


def test_a_version_is_what_the_shard_says() -> None:
    reply = ["version", 2**60 + 1, "backend", "TORCH", "sha256", ""]
    found = model_version("m", reply)
    assert found is not None
    assert (found.key, found.version, found.sha256) == ("m", 2**60 + 1, "")
    assert found == ModelVersion("m", 2**60 + 1, "known later")
    assert found != ModelVersion("m", 2**60, "")
    assert model_version("m", None) is None
