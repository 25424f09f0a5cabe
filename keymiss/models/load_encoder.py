"""Store the encoder on every master of the cluster, as bert-encoder{tag}, in the place of the one there.

    keymiss models load-encoder --nodes 127.0.0.1:30001
    keymiss models load-encoder --form onnx

It is exported first if that was not done, then loaded and run here as the worker will. Shards that already
hold just this encoder are skipped. Where it is new, gears/vectors.py makes every vector again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from keymiss import keys
from keymiss.environment import BadSetting
from keymiss.models.command_line import choice, said_in_one_line
from keymiss.models.export_encoder import (
    DEFAULT_ENCODER,
    DEFAULT_ENCODER_FORM,
    ENCODER_FORMS,
    export_encoder,
)
from keymiss.models.load import LoadError, Models, checked_export, store_everywhere
from keymiss.reading.backends.base import Model
from keymiss.reading.encoder import Encoder
from keymiss.reading.stored_vector import LONGEST_ERROR, Vector
from keymiss.reading.tensors import Tensor
from keymiss.settings import Settings
from keymiss.typer_app import Nodes, exit_code, typer_app

CHECKED_TEXTS = (
    "Main",
    "The river Main flows through Frankfurt before it reaches the Rhine at Mainz.",
    "Which river flows through Frankfurt?",
    "PCR detects viral RNA in a swab.",
)
app = typer_app()


def run_encoder(model: Model, encoder: Encoder, texts: list[str]) -> Vector:
    """[texts, DIMENSIONS]: the vectors of texts, one run after another. ModelError, ValueError."""

    def run(ids: np.ndarray, mask: np.ndarray) -> Vector:
        return np.asarray(model.run([Tensor(ids), Tensor(mask)])[0].array, np.float32)

    return encoder.encode(texts, run)


def check_encoder(path: Path, model: Model) -> None:
    """LoadError, ModelError or TextError unless it makes unit vectors in which a question is nearest to the
    sentence that answers it."""
    if model.about is None:
        how = "keymiss models export-encoder"
        raise LoadError(f"{path} says nothing of its tokenizer: make it with {how}")
    try:
        vectors = run_encoder(model, Encoder.of(model.about), list(CHECKED_TEXTS))
    except ValueError as error:
        raise LoadError(f"{path} is no encoder: {error}") from error
    lengths = np.linalg.norm(vectors, axis=1)
    if np.abs(lengths - 1).max() > LONGEST_ERROR:
        raise LoadError(f"{path}: its vectors are {lengths.min():.3f} to {lengths.max():.3f} long, not 1")
    about_main, other = float(vectors[2] @ vectors[1]), float(vectors[2] @ vectors[3])
    if about_main <= other:
        raise LoadError(f"{path}: a question is no nearer to its answer ({about_main:.2f} to {other:.2f})")


@app.command()
def load_encoder(
    model: Annotated[str, typer.Option(help="local folder or hub name")] = DEFAULT_ENCODER,
    form: Annotated[str, choice(ENCODER_FORMS, "that it is exported to")] = DEFAULT_ENCODER_FORM,
    nodes: Nodes = "",
) -> None:
    """Store the encoder that makes vectors on every master of the cluster, in the place of the one there."""
    with said_in_one_line("load-encoder", BadSetting):
        nodes = nodes or Settings.from_env().nodes

    def checked() -> Models:
        return {keys.encoder_key: checked_export(export_encoder(model, form)[0], check_encoder)}

    store_everywhere("load-encoder", checked, nodes)


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models load-encoder", arguments)


if __name__ == "__main__":
    sys.exit(main())
