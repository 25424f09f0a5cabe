"""TORCH: TorchScript in float32, bfloat16 or torch's dynamic int8, as the file is."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keymiss.reading.backends.base import FileModel, ModelError, about_in, reason_of
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor, from_array

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of each int8 model, where logs are read

ABOUT_FILE = "keymiss.json"  # of TorchScript's extra files


class TorchModel:
    """A frozen TorchScript module in evaluation mode."""

    def __init__(self, module: Any, about: About | None, names: tuple[list[str], list[str]]) -> None:
        self._module, self.about = module, about
        self.inputs, self.outputs = names

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Runs on the CPU with gradients off; bfloat16 and half outputs become FLOAT."""
        import torch

        try:
            with torch.inference_mode():
                outputs = self._module(*to_torch(inputs))
                return from_torch(outputs)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the model run failed: {reason_of(error)}", reason_of(error)) from error


def to_torch(tensors: Sequence[Tensor]) -> list[Any]:
    """Copies. ModelError for strings, which torch has no tensors of."""
    import torch

    if any(tensor.type_name == "STRING" for tensor in tensors):
        raise ModelError("TORCH has no tensors of strings: use ONNX")
    return [torch.from_numpy(np.array(tensor.array)) for tensor in tensors]


def from_torch(outputs: Any) -> list[Tensor]:
    """What a module returned: a tensor, or tuples, lists and dictionaries of them."""
    return [from_array(output.detach().cpu().numpy()) for output in _flatten(outputs)]


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

    @property
    def version(self) -> str:
        """Torch's."""
        import torch

        return str(torch.__version__)

    def prepare_thread(self) -> None:
        """The number of threads is a setting of the calling thread."""
        import torch

        torch.set_num_threads(1)

    def load(self, blob: bytes) -> FileModel:
        """Freezes the module, so that its weights become constants of the graph."""
        import torch

        extra = {ABOUT_FILE: ""}  # filled with bytes where the file has it
        try:
            jit: Any = torch.jit  # torch does not annotate it
            loaded = jit.load(io.BytesIO(blob), map_location="cpu", _extra_files=extra).eval()
            names = _names(loaded._c._get_method("forward").schema)
            module = jit.freeze(loaded)
        except Exception as error:
            reason = reason_of(error)
            raise ModelError(f"not a TorchScript model that can be loaded: {reason}", reason) from error
        return TorchModel(module, about_in(extra[ABOUT_FILE]), names)


def _names(forward: Any) -> tuple[list[str], list[str]]:
    """Of `forward`'s parameters, and an empty one for each tensor that it returns; none if it returns
    something of which only a run tells how many there are."""
    inputs = [argument.name for argument in forward.arguments[1:]]
    (returned,) = forward.returns
    kind = returned.type
    kinds = [one.kind() for one in kind.elements()] if kind.kind() == "TupleType" else [kind.kind()]
    return inputs, [""] * len(kinds) if set(kinds) == {"TensorType"} else []
