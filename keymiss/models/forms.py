"""The forms a reader is exported to.

Each takes (input_ids, attention_mask, token_type_ids), INT64 [batch, seq] of any size, and gives
(start_logits, end_logits), FLOAT [batch, seq].

A form is one function that writes the model's file with what it says of itself in it: to add one, write it
and put it into FORMS.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from keymiss.reading.backends.onnx import ABOUT_ENTRY, OnnxBackend
from keymiss.reading.backends.torchscript import ABOUT_FILE, TorchBackend

ONNX_LIMIT_BYTES = 2 * 1000**3  # protobuf's 2 GiB, less the graph
INT8_WEIGHT_BITS = 7
"""A processor without VNNI adds two products of a weight and an activation (unsigned, 8 bits) in 16 bits, too
few for 8-bit weights: 2 * 255 * 127 > 32767. With 7 bits no sum saturates, on any processor."""
INPUT_NAMES = ["input_ids", "attention_mask", "token_type_ids"]
OUTPUT_NAMES = ["start_logits", "end_logits"]


class ExportError(RuntimeError):
    """A model that cannot be exported; the text says why and what to do."""


@dataclass(frozen=True)
class Form:
    """`write` (eager model, About as JSON, path) makes the file; `suffix` follows the model's name; `backend`
    runs it; `packages` are those that its bytes depend on."""

    suffix: str
    backend: str
    precision: str
    packages: tuple[str, ...]
    write: Callable[[Any, str, Path], None]


@contextmanager
def quiet() -> Iterator[None]:
    """TorchScript is deprecated but is what the TORCH backend takes; transformers and torch's ONNX exporter
    warn of their own code."""
    was = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was)


def arguments_of(model: Any) -> set[str]:
    """What the model's forward takes: not every BERT-like model has token types and positions."""
    return set(inspect.signature(model.forward).parameters)


def dummy_inputs(batch: int, seq: int, vocab_size: int) -> tuple[Any, Any, Any]:
    """Inputs of random tokens; each row but the first ends in some padding, where it is long enough."""
    import torch

    made = torch.Generator().manual_seed(batch * 1000 + seq)
    ids = torch.randint(1, vocab_size, (batch, seq), generator=made)
    mask = torch.ones_like(ids)
    for row in range(1, batch):
        mask[row, max(4, seq - 3 * row) :] = 0
    types = torch.zeros_like(ids)
    types[:, seq // 3 :] = 1
    return ids * mask, mask, types * mask


def _reader(model: Any) -> Any:
    """The module that is exported, in the precision that the model's weights have.

    The attention mask is made here, as BERT's additive [batch, 1, 1, seq], and the positions are given:
    transformers' own mask code decides on the values and lengths it sees, which a trace would freeze.
    """
    import torch

    takes = arguments_of(model)
    kind = next(model.parameters()).dtype

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> tuple[Any, Any]:
            away = (1.0 - attention_mask[:, None, None, :].to(kind)) * torch.finfo(kind).min
            extra = {}
            if "token_type_ids" in takes:
                extra["token_type_ids"] = token_type_ids
            if "position_ids" in takes:
                extra["position_ids"] = torch.arange(input_ids.size(1), device=input_ids.device)[None]
            out = self.model(input_ids=input_ids, attention_mask=away, **extra)
            return out.start_logits.float(), out.end_logits.float()

    return Reader().eval()


def save_torchscript(module: Any, inputs: tuple[Any, ...], about: str, path: Path) -> None:
    """Traces the module, and writes it with what it says of itself."""
    import torch

    with quiet(), torch.no_grad():
        traced = torch.jit.trace(module, inputs, strict=False)
        torch.jit.save(traced, str(path), _extra_files={ABOUT_FILE: about})


def _torchscript(model: Any, about: str, path: Path) -> None:
    save_torchscript(_reader(model), dummy_inputs(2, 17, model.config.vocab_size), about, path)


def _torchscript_bfloat16(model: Any, about: str, path: Path) -> None:
    import torch

    _torchscript(copy.deepcopy(model).to(torch.bfloat16), about, path)


def _torchscript_int8(model: Any, about: str, path: Path) -> None:
    _torchscript(quantized(model), about, path)


def quantized(model: Any) -> Any:
    """A copy in torch's dynamic int8: weights per channel, in INT8_WEIGHT_BITS; activations in 8 bits: torch
    would take only 7 of them, which cost 2.6 F1 and which `version` 4 says."""
    import torch

    with quiet():
        try:
            from torch.ao.quantization import (
                PerChannelMinMaxObserver,
                QConfig,
                per_channel_dynamic_qconfig,
                quantize_dynamic,
            )

            weight = PerChannelMinMaxObserver.with_args(
                dtype=torch.qint8,
                qscheme=torch.per_channel_symmetric,
                quant_min=-(2 ** (INT8_WEIGHT_BITS - 1)),
                quant_max=2 ** (INT8_WEIGHT_BITS - 1) - 1,
            )
            config = QConfig(activation=per_channel_dynamic_qconfig.activation, weight=weight)
            small = quantize_dynamic(model, {torch.nn.Linear: config})
            for layer in small.modules():
                if isinstance(layer, torch.ao.nn.quantized.dynamic.Linear):
                    layer.version = 3
        except (ImportError, AttributeError, NotImplementedError, RuntimeError) as error:
            raise ExportError(
                f"torch {torch.__version__} cannot quantize here ({error}): use the form onnx-int8"
            ) from error
    return small


def onnx_graph(
    module: Any, inputs: tuple[Any, ...], input_names: Sequence[str], output_names: Sequence[str]
) -> Any:
    """The module as ONNX's protobuf message. The first two sizes of its inputs may be others."""
    import torch

    n_bytes = sum(weights.numel() * weights.element_size() for weights in module.parameters())
    if n_bytes > ONNX_LIMIT_BYTES:
        raise ExportError(
            f"{n_bytes / 1e9:.1f} GB of weights are too many for one ONNX file: use torchscript"
        )
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    named = {0: "batch", 1: "seq"}
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                module, inputs, dynamic_shapes=[any_size] * len(inputs), strict=False
            )
            made = torch.onnx.export(
                program,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_shapes=[named] * len(inputs),
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise ExportError(f"the ONNX forms need the packages onnx and onnxscript: {error}") from error
    except Exception as error:  # the exporter raises a dozen unrelated types
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise ExportError(f"torch's ONNX exporter does not take this model ({said})") from error
    if made is None:
        raise ExportError("torch's ONNX exporter made nothing")
    return made.model_proto


def once_a_model(graph_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Keeps a model's graph as long as the model: two forms are made of it, and to trace it takes longest."""
    made: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def graph(model: Any) -> Any:
        if model not in made:
            made[model] = graph_of(model)
        return made[model]

    return graph


def save_onnx(graph: Any, about: str, path: Path) -> None:
    """Writes the graph, with what it says of itself."""
    import onnx

    onnx.helper.set_model_props(graph, {ABOUT_ENTRY: about})
    path.write_bytes(graph.SerializeToString())


def save_onnx_int8(graph: Any, about: str, path: Path) -> None:
    """Weights per channel, in 7 bits (`reduce_range`); so are the embeddings, half of a small model."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(graph, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    save_onnx(onnx.load(str(path)), about, path)


@once_a_model
def _graph(model: Any) -> Any:
    inputs = dummy_inputs(2, 17, model.config.vocab_size)
    return onnx_graph(_reader(model), inputs, INPUT_NAMES, OUTPUT_NAMES)


def _onnx(model: Any, about: str, path: Path) -> None:
    save_onnx(_graph(model), about, path)


def _onnx_int8(model: Any, about: str, path: Path) -> None:
    save_onnx_int8(_graph(model), about, path)


ONNX_PACKAGES = ("torch", "transformers", "onnx", "onnxscript")
_TORCH, _ONNX = TorchBackend.name, OnnxBackend.name
FORMS = {
    "torchscript": Form(".pt", _TORCH, "float32", ONNX_PACKAGES[:2], _torchscript),
    "torchscript-bfloat16": Form(
        ".bfloat16.pt", _TORCH, "bfloat16", ONNX_PACKAGES[:2], _torchscript_bfloat16
    ),
    "torchscript-int8": Form(".int8.pt", _TORCH, "int8", ONNX_PACKAGES[:2], _torchscript_int8),
    "onnx": Form(".onnx", _ONNX, "float32", ONNX_PACKAGES, _onnx),
    "onnx-int8": Form(".int8.onnx", _ONNX, "int8", (*ONNX_PACKAGES, "onnxruntime"), _onnx_int8),
}
DEFAULT_FORM = "torchscript"
