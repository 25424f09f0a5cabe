"""Backends: what turns a model's blob into something that runs. One file each, chosen here by name.

TORCH (backend_torch.py) runs TorchScript, ONNX (backend_onnx.py) ONNX files. DUMMY needs no weights: its
blob is JSON such as ``{"outputs": 2, "delay_ms": 5, "fail": "text"}``; output number i is the first input
plus i, as FLOAT. With ``--backend dummy`` it stands in for every backend, so that the layers above can be
tested without weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from keymiss.reader import About
from keymiss.text import TextError
from keymiss.worker.tensors import Tensor, from_array


class ModelError(Exception):
    """A model that cannot be loaded or run; the text says why, on one line."""


class Model(Protocol):
    """A loaded model. `run` is called from several threads at once. `about` is what its file says of itself
    (models/export.py writes it), None for a file that says nothing."""

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


class DummyModel:
    """See the module's text."""

    about: About | None = None

    def __init__(self, outputs: int, delay_ms: float, fail: str | None) -> None:
        self._outputs, self._delay_ms, self._fail = outputs, delay_ms, fail

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Waits, then fails or answers, as the blob said."""
        time.sleep(self._delay_ms / 1000)
        if self._fail is not None:
            raise ModelError(f"the model run failed: {self._fail}")
        if not inputs:
            raise ModelError("the model run failed: no inputs")
        first = inputs[0].array.astype(np.float32)
        return [from_array(first + np.float32(number)) for number in range(self._outputs)]


class DummyBackend:
    """Backend for tests."""

    name = "DUMMY"

    def prepare_thread(self) -> None:
        """Nothing to prepare."""

    def load(self, blob: bytes) -> Model:
        """ModelError unless the blob is a JSON object."""
        try:
            spec = json.loads(blob)
            return DummyModel(int(spec.get("outputs", 1)), float(spec.get("delay_ms", 0)), spec.get("fail"))
        except (ValueError, AttributeError, TypeError) as error:
            raise ModelError(f"not a dummy model: {reason_of(error)}") from error


def backend_table(choice: str) -> dict[str, Backend]:
    """Backends by the name that AI.MODELSTORE was given; `choice` is "torch" (all real ones) or "dummy"."""
    if choice == "dummy":
        dummy = DummyBackend()
        return dict.fromkeys(("TORCH", "ONNX", "TF", "TFLITE", "DUMMY"), dummy)
    from keymiss.worker.backend_onnx import OnnxBackend
    from keymiss.worker.backend_torch import TorchBackend

    table: dict[str, Backend] = {TorchBackend.name: TorchBackend()}
    if find_spec("onnxruntime"):
        table[OnnxBackend.name] = OnnxBackend()
    return table
