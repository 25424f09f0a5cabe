"""TORCH: TorchScript in float32, bfloat16 or torch's dynamic int8, as the file is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from keymiss.reading.backends.base import Model, ModelError, about_in, reason_of
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor, from_array

ABOUT_FILE = "keymiss.json"  # of TorchScript's extra files


class TorchModel:
    """A frozen TorchScript module in evaluation mode."""

    def __init__(self, module: Any, about: About | None) -> None:
        self._module, self.about = module, about

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Runs on the CPU with gradients off; bfloat16 and half outputs become FLOAT."""
        import torch

        try:
            with torch.inference_mode():
                tensors = [torch.from_numpy(np.array(tensor.array)) for tensor in inputs]
                outputs = self._module(*tensors)
                return [from_array(output.detach().cpu().numpy()) for output in _flatten(outputs)]
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the model run failed: {reason_of(error)}") from error


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
    """One thread a run: several runs at once beat one run on several threads (measured, see the design)."""

    name = "TORCH"

    def prepare_thread(self) -> None:
        """The number of threads is a setting of the calling thread."""
        import torch

        torch.set_num_threads(1)

    def load(self, blob: bytes) -> Model:
        """Freezes the module, so that its weights become constants of the graph."""
        import torch

        extra = {ABOUT_FILE: ""}  # filled with bytes where the file has it
        try:
            jit: Any = torch.jit  # torch does not annotate it
            module = jit.freeze(jit.load(io.BytesIO(blob), map_location="cpu", _extra_files=extra).eval())
        except Exception as error:
            raise ModelError(f"not a TorchScript model that can be loaded: {reason_of(error)}") from error
        return TorchModel(module, about_in(extra[ABOUT_FILE]))
