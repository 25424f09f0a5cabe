"""Backends by the name that a model is stored with: TORCH runs TorchScript, ONNX ONNX files."""

from __future__ import annotations

from importlib.util import find_spec

from keymiss.reading.backends.base import Backend
from keymiss.reading.backends.dummy import DummyBackend


def backend_table(choice: str) -> dict[str, Backend]:
    """Backends by the name that AI.MODELSTORE was given; `choice` is "torch" (all real ones) or "dummy"."""
    if choice == "dummy":
        dummy = DummyBackend()
        return dict.fromkeys(("TORCH", "ONNX", "TF", "TFLITE", "DUMMY"), dummy)
    from keymiss.reading.backends.onnx import OnnxBackend  # here: they bring large libraries
    from keymiss.reading.backends.torchscript import TorchBackend

    table: dict[str, Backend] = {TorchBackend.name: TorchBackend()}
    if find_spec("onnxruntime"):
        table[OnnxBackend.name] = OnnxBackend()
    return table
