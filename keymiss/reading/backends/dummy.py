"""DUMMY needs no weights: its blob is JSON such as ``{"outputs": 2, "delay_ms": 5, "fail": "text"}``.

Output number i is the first input plus i, as FLOAT. With ``--backend dummy`` it stands in for every backend,
so that the layers above can be tested without weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np

from keymiss.reading.backends.base import FileModel, ModelError, reason_of
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor, from_array


class DummyModel:
    """See the module's text."""

    about: About | None = None
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()

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
    version = "0"

    def prepare_thread(self) -> None:
        """Nothing to prepare."""

    def load(self, blob: bytes) -> FileModel:
        """ModelError unless the blob is a JSON object."""
        try:
            spec = json.loads(blob)
            return DummyModel(int(spec.get("outputs", 1)), float(spec.get("delay_ms", 0)), spec.get("fail"))
        except (ValueError, AttributeError, TypeError) as error:
            raise ModelError(f"not a dummy model: {reason_of(error)}", reason_of(error)) from error
