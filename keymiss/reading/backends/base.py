"""What a backend is: it turns a model's blob into something that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor
from keymiss.reading.tokenizers import TextError


class ModelError(Exception):
    """A model that cannot be loaded or run; the text says why, on one line."""


class Model(Protocol):
    """A loaded model. `run` is called from several threads at once. `about` is what its file says of itself
    (keymiss/models/export.py writes it), None for a file that says nothing."""

    about: About | None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, in the model's order. Raises ModelError."""


class Backend(Protocol):
    """Loads models. Both methods are called from any thread."""

    name: str

    def prepare_thread(self) -> None:
        """Called once by every thread that will run models."""

    def load(self, blob: bytes) -> Model:
        """Raises ModelError if the blob is not a model of this backend."""


def reason_of(error: BaseException) -> str:
    """One line. TorchScript's errors are a page long and name the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    if lines and len(lines) > 1 and not text.startswith(("RuntimeError", "IndexError", "ValueError")):
        text = lines[0]
    return text[:400]


def about_in(given: str | bytes | None) -> About | None:
    """What a model's file says of itself (`About.to_json`), None if nothing; ModelError if it is broken."""
    if not given:
        return None
    try:
        return About.from_json(given.decode() if isinstance(given, bytes) else given)
    except (TextError, UnicodeDecodeError) as error:
        raise ModelError(f"the model's keymiss.json is broken: {reason_of(error)}") from error
