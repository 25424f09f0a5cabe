"""Export the model that makes sentence vectors to a form that the worker runs.

    keymiss models export-encoder --form all

Each form takes (input_ids, attention_mask), INT64 [batch, seq] of any size, and gives FLOAT [batch, 384]:
the last layer's [CLS], or its mean over the mask, as the model's folder says (encoder_folder.py), of unit
length. Files, and when they are made again: as export.py.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keymiss.models.command_line import choice, said_in_one_line
from keymiss.models.encoder_folder import CLS, EncoderFolder
from keymiss.models.export import (
    COMPARED,
    TOLERANCE,
    Exported,
    Source,
    export_all,
    export_source,
    read_back,
)
from keymiss.models.forms import (
    FORMS,
    ONNX_PACKAGES,
    ExportError,
    Form,
    dummy_inputs,
    once_a_model,
    onnx_graph,
    quiet,
    save_onnx,
    save_onnx_int8,
)
from keymiss.reading.backends.base import ModelError
from keymiss.reading.backends.onnx import OnnxBackend
from keymiss.reading.reader import MAX_SEQUENCE_TOKENS, About
from keymiss.reading.stored_vector import DIMENSIONS
from keymiss.reading.tensors import Tensor
from keymiss.typer_app import exit_code, typer_app

DEFAULT_ENCODER = "models/encoder"
INPUT_NAMES = ["input_ids", "attention_mask"]
OUTPUT_NAMES = ["vectors"]
app = typer_app()
LEAST_COSINE = 0.9  # of an int8 form's vector to the eager model's, over random tokens


def _pooled(model: Any, pooling: str) -> Any:
    """The module that is exported; its mask is made as keymiss.models.forms does, and why."""
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.config = model, model.config

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            keep = attention_mask.to(torch.float32)
            away = (1.0 - keep[:, None, None, :]) * torch.finfo(torch.float32).min
            positions = torch.arange(input_ids.size(1), device=input_ids.device)[None]
            types = torch.zeros_like(input_ids)
            out = self.model(
                input_ids=input_ids, attention_mask=away, token_type_ids=types, position_ids=positions
            )
            states = out.last_hidden_state
            if pooling == CLS:
                return torch.nn.functional.normalize(states[:, 0], dim=1)
            mean = (states * keep[:, :, None]).sum(1) / keep.sum(1, keepdim=True).clamp(min=1)
            return torch.nn.functional.normalize(mean, dim=1)

    return Pooled().eval()


@once_a_model
def _graph(model: Any) -> Any:
    inputs = dummy_inputs(2, 17, model.config.vocab_size)[: len(INPUT_NAMES)]
    return onnx_graph(model, inputs, INPUT_NAMES, OUTPUT_NAMES)


def _onnx(model: Any, about: str, path: Path) -> None:
    save_onnx(_graph(model), about, path)


def _onnx_int8(model: Any, about: str, path: Path) -> None:
    save_onnx_int8(_graph(model), about, path)


ENCODER_FORMS = {
    "onnx": Form(FORMS["onnx"].suffix, OnnxBackend.name, "float32", ONNX_PACKAGES, _onnx),
    "onnx-int8": Form(
        FORMS["onnx-int8"].suffix, OnnxBackend.name, "int8", (*ONNX_PACKAGES, "onnxruntime"), _onnx_int8
    ),
}
DEFAULT_ENCODER_FORM = "onnx-int8"


class EncoderSource(Source):
    """An encoder to export: a folder with a BERT-like model of DIMENSIONS width."""

    forms = ENCODER_FORMS

    @cached_property
    def eager(self) -> Any:
        """The Hugging Face model, and what makes one vector of its output. ExportError if it cannot make
        vectors of DIMENSIONS."""
        return _pooled(load_encoder(self.folder), self.says.pooling)

    @cached_property
    def says(self) -> EncoderFolder:
        """What its folder says of it. ExportError if that cannot be exported."""
        return EncoderFolder.of(self.folder)

    def about(self, precision: str) -> About:
        """With the prefixes."""
        return replace(
            super().about(precision),
            question_prefix=self.says.question_prefix,
            sentence_prefix=self.says.sentence_prefix,
        )

    def vectors(self, batch: int, seq: int) -> tuple[list[Tensor], np.ndarray[Any, np.dtype[np.float32]]]:
        """`dummy_inputs` of this size and the eager model's output for them."""
        import torch

        ids, mask, _ = dummy_inputs(batch, seq, self.eager.config.vocab_size)
        with torch.inference_mode():
            eager = self.eager(ids, mask).numpy()
        return [Tensor(ids.numpy()), Tensor(mask.numpy())], eager

    def checked(self, form: str, path: Path) -> float:
        """The greatest difference of one number of a vector; ExportError if it is too much."""
        kind, greatest = self.forms[form], 0.0
        try:
            model = read_back(path, kind.backend)
            for batch, seq in COMPARED:
                inputs, eager = self.vectors(batch, min(seq, MAX_SEQUENCE_TOKENS))
                (output,) = model.run(inputs)
                cosine = float((output.array * eager).sum(1).min())
                difference = float(np.abs(output.array - eager).max())
                wrong = difference > TOLERANCE if kind.precision == "float32" else cosine < LEAST_COSINE
                if wrong or math.isnan(difference):
                    raise ExportError(
                        f"the exported encoder differs by {difference:.1e} (cosine {cosine:.3f}) "
                        f"for {batch} x {seq} tokens"
                    )
                greatest = max(greatest, difference)
        except ModelError as error:
            raise ExportError(f"the exported encoder cannot be run: {error}") from error
        return greatest


def load_encoder(folder: Path) -> Any:
    """The model in float32 with eager attention; ExportError if it is none, or makes other vectors."""
    import torch
    import transformers
    from transformers import AutoModel

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():
            model, info = AutoModel.from_pretrained(
                str(folder),
                attn_implementation="eager",
                dtype=torch.float32,
                output_loading_info=True,
                add_pooling_layer=False,
            )
    except Exception as error:  # broken files raise errors of several libraries
        said = " ".join(str(error).split())[:400]
        raise ExportError(f"{folder.name} is not an encoder: {said}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"]))
        raise ExportError(f"{folder.name} is not trained: it lacks {missing}")
    if model.config.hidden_size != DIMENSIONS:
        raise ExportError(f"{folder.name} makes vectors of {model.config.hidden_size}, not {DIMENSIONS}")
    return model.eval()


def export_encoder(
    model: str = DEFAULT_ENCODER, form: str = DEFAULT_ENCODER_FORM, out: Path | None = None
) -> tuple[Exported, bool]:
    """Export an encoder unless that was done; also says whether it was made now."""
    return export_source(EncoderSource(model), out, form)


@app.command()
def command(
    model: Annotated[str, typer.Option(help="local folder or hub name")] = DEFAULT_ENCODER,
    form: Annotated[str, choice([*ENCODER_FORMS, "all"], "what the worker is to run")] = DEFAULT_ENCODER_FORM,
) -> None:
    """Export the model that makes sentence vectors to a form that the worker runs."""
    forms = list(ENCODER_FORMS) if form == "all" else [form]
    with said_in_one_line("export-encoder", ExportError):
        source = EncoderSource(model)
    export_all("export-encoder", forms, partial(export_source, source, None))


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models export-encoder", arguments)


if __name__ == "__main__":
    sys.exit(main())
