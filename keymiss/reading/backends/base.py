"""What a backend is: it turns a model's blob into something that runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor
from keymiss.reading.tokenizers import TextError


class ModelError(Exception):
    """A model that cannot be loaded or run; the text says why, on one line. `reason` is what the library
    itself said, without our words around it."""

    def __init__(self, text: str, reason: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason or text


class Model(Protocol):
    """A loaded model. `run` is called from several threads at once. `about` is what its file says of itself
    (keymiss/models/export.py writes it), None for a file that says nothing."""

    about: About | None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, in the model's order. Raises ModelError."""


class FileModel(Model, Protocol):
    """One of a file. `inputs` and `outputs` are their names, as AI.MODELGET gives them: none where their
    number is not known before a run."""

    @property
    def inputs(self) -> Sequence[str]:
        """In the order of the run's."""

    @property
    def outputs(self) -> Sequence[str]:
        """In their order."""


class Backend(Protocol):
    """Loads models. Both methods are called from any thread."""

    name: str

    @property
    def version(self) -> str:
        """Of the library that runs its models."""

    def prepare_thread(self) -> None:
        """Called once by every thread that will run models."""

    def load(self, blob: bytes) -> FileModel:
        """Raises ModelError if the blob is not a model of this backend."""


def reason_of(error: BaseException) -> str:
    """One line. TorchScript's errors are a page long and name the cause last, or near its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if len(lines) > 1:
        causes = [
            line for line in lines if re.match(r"[\w.]*(RuntimeError|IndexError|ValueError|ModelError)", line)
        ]
        text = causes[-1] if causes else text
    return text[:400]


def about_in(given: str | bytes | None) -> About | None:
    """What a model's file says of itself (`About.to_json`), None if nothing; ModelError if it is broken."""
    if not given:
        return None
    try:
        return About.from_json(given.decode() if isinstance(given, bytes) else given)
    except (TextError, UnicodeDecodeError) as error:
        raise ModelError(f"the model's keymiss.json is broken: {reason_of(error)}") from error
