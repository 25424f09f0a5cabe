"""A model of Keymiss is run where it was loaded, over inputs of its kind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from keymiss.reading.backends.base import ModelError
from keymiss.reading.reader import LOWER, UPPER, About, Half
from keymiss.reading.tensors import Tensor
from keymiss.worker.model_processes.warming import LENGTHS, warm

WHOLE = About("some", "float32", "{}", 100, 512)


def half(name: str) -> About:
    return About("some", "float32", "{}", 100, 512, half=Half(name, "pair", 6, 4, 32, 60))


class Model:
    """Notes what it is run over, and fails."""

    outputs: Sequence[str] = ()

    def __init__(self, about: About | None, *inputs: str) -> None:
        self.about, self.inputs = about, inputs
        self.ran: list[list[tuple[str, tuple[int, ...]]]] = []

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        self.ran.append([(tensor.type_name, tensor.dims) for tensor in inputs])
        if len(self.ran) == len(LENGTHS):
            raise ModelError("it fails")
        return []


@pytest.mark.parametrize(
    "model",
    [
        Model(WHOLE, "input_ids", "attention_mask", "token_type_ids"),
        Model(WHOLE, "input_ids", "attention_mask"),
        Model(half(LOWER), "input_ids", "attention_mask", "token_type_ids"),
    ],
)
def test_what_takes_tokens(model: Model) -> None:
    warm(model)
    assert model.ran == [[("INT64", (1, tokens))] * len(model.inputs) for tokens in LENGTHS]


def test_an_upper_half() -> None:
    model = Model(half(UPPER), "states", "attention_mask")
    warm(model)
    assert model.ran == [[("FLOAT", (1, tokens, 32)), ("INT64", (1, tokens))] for tokens in LENGTHS]


def test_another_model() -> None:
    model = Model(None, "x")
    warm(model)
    assert not model.ran
