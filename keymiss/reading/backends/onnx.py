"""ONNX: ONNX Runtime on the CPU, for float32 and its int8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keymiss.reading.backends.base import Model, ModelError, about_in, reason_of
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor, from_array

ABOUT_ENTRY = "keymiss"  # of the model's metadata
FATAL = 4  # ONNX Runtime's log level: its errors are raised, and need not be on standard error too


class OnnxModel:
    """A session, which several threads may run at once."""

    def __init__(self, session: Any, about: About | None) -> None:
        self._session, self.about = session, about
        self._names = [one.name for one in session.get_inputs()]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """`inputs` in the order of the model's; half outputs become FLOAT."""
        if len(inputs) != len(self._names):
            raise ModelError(f"the model run failed: it takes {len(self._names)} inputs, got {len(inputs)}")
        given = {name: tensor.array for name, tensor in zip(self._names, inputs, strict=True)}
        try:
            return [_tensor(output) for output in self._session.run(None, given)]
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the model run failed: {reason_of(error)}") from error


def _tensor(output: Any) -> Tensor:
    if not isinstance(output, np.ndarray):
        raise ModelError(f"the model returned a {type(output).__name__}, not tensors")
    return from_array(output)


class OnnxBackend:
    """One thread a run, as with TORCH: a run works in the thread that calls it."""

    name = "ONNX"

    def prepare_thread(self) -> None:
        """Nothing to prepare: the number of threads belongs to the session."""

    def load(self, blob: bytes) -> Model:
        """Optimizes the graph for this processor."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it keeps a plan of memory for every shape seen, and each differs
        options.log_severity_level = FATAL
        try:
            session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
            about = session.get_modelmeta().custom_metadata_map.get(ABOUT_ENTRY)
        except Exception as error:
            raise ModelError(f"not an ONNX model that can be loaded: {reason_of(error)}") from error
        return OnnxModel(session, about_in(about))
