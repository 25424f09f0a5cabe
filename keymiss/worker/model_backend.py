"""Backends: what turns a model's blob into something that runs.

TORCH runs TorchScript in float32. DUMMY needs no weights: its blob is JSON such as
``{"outputs": 2, "delay_ms": 5, "fail": "text"}``; output number i is the first input plus i, as
FLOAT. With ``--backend dummy`` it stands in for every backend, so that the layers above can be
tested without weights.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from keymiss.worker.tensors import Tensor, from_array


class ModelError(Exception):
    """A model that cannot be loaded or run; the text says why, on one line."""


class Model(Protocol):
    """A loaded model. `run` is called from several threads at once."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, in the model's order. Raises ModelError."""


class Backend(Protocol):
    """Loads models. Both methods are called from any thread."""

    name: str

    def prepare_thread(self) -> None:
        """Called once by every thread that will run models."""

    def load(self, blob: bytes) -> Model:
        """Raises ModelError if the blob is not a model of this backend."""


def _reason(error: BaseException) -> str:
    """TorchScript's errors are a page long and name the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    if lines and len(lines) > 1 and not text.startswith(("RuntimeError", "IndexError", "ValueError")):
        text = lines[0]
    return text[:400]


class TorchModel:
    """A frozen TorchScript module in evaluation mode."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Runs on the CPU with gradients off."""
        import torch

        try:
            with torch.inference_mode():
                tensors = [torch.from_numpy(np.array(tensor.array)) for tensor in inputs]
                outputs = self._module(*tensors)
                return [from_array(output.detach().cpu().numpy()) for output in _flatten(outputs)]
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the model run failed: {_reason(error)}") from error


def _flatten(outputs: Any) -> list[Any]:
    import torch

    if isinstance(outputs, torch.Tensor):
        return [outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if not isinstance(outputs, (list, tuple)):
        raise ModelError(f"the model returned a {type(outputs).__name__}, not tensors")
    return [tensor for output in outputs for tensor in _flatten(output)]


class TorchBackend:
    """TorchScript, float32, one thread a run: several runs at once beat one run on several threads
    (measured, see the design)."""

    name = "TORCH"

    def prepare_thread(self) -> None:
        """The number of threads is a setting of the calling thread."""
        import torch

        torch.set_num_threads(1)

    def load(self, blob: bytes) -> Model:
        """Freezes the module, so that its weights become constants of the graph."""
        import torch

        try:
            jit: Any = torch.jit  # torch does not annotate it
            module = jit.load(io.BytesIO(blob), map_location="cpu").eval().float()
            return TorchModel(jit.freeze(module))
        except Exception as error:
            raise ModelError(f"not a TorchScript model that can be loaded: {_reason(error)}") from error


class DummyModel:
    """See the module's text."""

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
            raise ModelError(f"not a dummy model: {_reason(error)}") from error


def backend_table(choice: str) -> dict[str, Backend]:
    """Backends by the name that AI.MODELSTORE was given; `choice` is "torch" or "dummy"."""
    if choice == "dummy":
        dummy = DummyBackend()
        return dict.fromkeys(("TORCH", "ONNX", "TF", "TFLITE", "DUMMY"), dummy)
    return {"TORCH": TorchBackend()}
