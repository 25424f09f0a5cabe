"""ONNX: ONNX Runtime on the CPU, for float32 and its int8."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keymiss.reading.backends.base import FileModel, ModelError, about_in
from keymiss.reading.backends.onnx_file import has_external_data
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor, from_array

ABOUT_ENTRY = "keymiss"  # of the model's metadata
FATAL = 4  # ONNX Runtime's log level: its errors are raised, and need not be on standard error too


class OnnxModel:
    """A session, which several threads may run at once."""

    def __init__(self, session: Any, about: About | None) -> None:
        self._session, self.about = session, about
        self.inputs = [one.name for one in session.get_inputs()]
        self.outputs = [one.name for one in session.get_outputs()]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """`inputs` in the order of the model's; half outputs become FLOAT."""
        if len(inputs) != len(self.inputs):
            raise ModelError(f"the model run failed: it takes {len(self.inputs)} inputs, got {len(inputs)}")
        given = {name: tensor.array for name, tensor in zip(self.inputs, inputs, strict=True)}
        try:
            return [_tensor(output) for output in self._session.run(None, given)]
        except ModelError:
            raise
        except Exception as error:
            reason = _reason(error)
            raise ModelError(f"the model run failed: {reason}", reason) from error


def _reason(error: Exception) -> str:
    """ONNX Runtime's text without its head, ``[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : ``."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", " ".join(str(error).split()))[:400]


def _tensor(output: Any) -> Tensor:
    """A map is the tensor of its values in the order of its keys; a sequence is stacked."""
    if isinstance(output, dict):
        values = [value for _, value in sorted(output.items())]
        output = np.array(values, np.float32 if all(isinstance(value, float) for value in values) else None)
    if isinstance(output, list):
        arrays = [_tensor(one).array for one in output]
        if not arrays or len({(array.shape, array.dtype) for array in arrays}) != 1:
            raise ModelError("the model returned a sequence that is empty or of different shapes: no tensor")
        output = np.stack(arrays)
    if not isinstance(output, np.ndarray):
        raise ModelError(f"the model returned a {type(output).__name__}, not tensors")
    return from_array(output)


class OnnxBackend:
    """One thread a run, as with TORCH: a run works in the thread that calls it."""

    name = "ONNX"

    @property
    def version(self) -> str:
        """ONNX Runtime's."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def prepare_thread(self) -> None:
        """Imports it, no more: the number of threads belongs to the session."""
        import onnxruntime  # noqa: F401

    def load(self, blob: bytes) -> FileModel:
        """Optimizes the graph for this processor."""
        import onnxruntime

        if has_external_data(blob):
            raise ModelError("Initializer tensors with external data is not allowed.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it keeps a plan of memory for every shape seen, and each differs
        options.enable_cpu_mem_arena = False  # it keeps what the largest run took, and is no faster
        options.log_severity_level = FATAL
        try:
            session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
            session._model_bytes = None  # which it keeps in case it is to be made again
            about = session.get_modelmeta().custom_metadata_map.get(ABOUT_ENTRY)
        except Exception as error:
            reason = _reason(error)
            raise ModelError(f"not an ONNX model that can be loaded: {reason}", reason) from error
        return OnnxModel(session, about_in(about))
