"""Store the encoder on every master of the cluster, as bert-encoder{tag}, in the place of the one there.

    python -m keymiss.models.load_encoder --nodes 127.0.0.1:30001
    python -m keymiss.models.load_encoder --form onnx

It is exported first if that was not done, then loaded and run here as the worker will. Shards that already
hold just this encoder are skipped. Where it is new, gears/vectors.py makes every vector again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import redis
from redis.exceptions import RedisClusterException

from keymiss import keys
from keymiss.environment import BadSetting
from keymiss.models.export_encoder import (
    DEFAULT_ENCODER,
    DEFAULT_ENCODER_FORM,
    ENCODER_FORMS,
    export_encoder,
)
from keymiss.models.forms import ExportError
from keymiss.models.load import LoadError, check_file, connect, store
from keymiss.reading.backends.base import Model
from keymiss.reading.encoder import Encoder
from keymiss.reading.stored_vector import LONGEST_ERROR, Vector
from keymiss.reading.tensors import Tensor
from keymiss.settings import Settings

CHECKED_TEXTS = (
    "Main",
    "The river Main flows through Frankfurt before it reaches the Rhine at Mainz.",
    "Which river flows through Frankfurt?",
    "PCR detects viral RNA in a swab.",
)


def run_encoder(model: Model, encoder: Encoder, texts: list[str]) -> Vector:
    """[texts, DIMENSIONS]: the vectors of texts, one run after another. ModelError, ValueError."""

    def run(ids: np.ndarray, mask: np.ndarray) -> Vector:
        return np.asarray(model.run([Tensor(ids), Tensor(mask)])[0].array, np.float32)

    return encoder.encode(texts, run)


def check_encoder(path: Path, model: Model) -> None:
    """LoadError, ModelError or TextError unless it makes unit vectors in which a question is nearest to the
    sentence that answers it."""
    if model.about is None:
        how = "python -m keymiss.models.export_encoder"
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


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 done, 1 the encoder or the cluster is at fault."""
    try:
        settings = Settings.from_env()
    except BadSetting as error:
        print(f"keymiss.models.load_encoder: {error}", file=sys.stderr)
        return 1
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m keymiss.models.load_encoder", description=about)
    parser.add_argument("--model", default=DEFAULT_ENCODER, help="folder or hub name (default: %(default)s)")
    parser.add_argument("--form", choices=list(ENCODER_FORMS), default=DEFAULT_ENCODER_FORM)
    parser.add_argument("--nodes", default=settings.nodes, help="host:port,... of any nodes of the cluster")
    options = parser.parse_args(arguments)
    began_s, done = time.monotonic(), 0
    try:
        made, _ = export_encoder(options.model, options.form)
        encoder = check_file(Path(made.path), check_encoder)
        with connect(options.nodes) as client:
            for one in store(client, encoder, keys.encoder_key):
                print(f"{one.node} {one.key}: {'stored' if one.new else 'already there'}", flush=True)
                done += 1
    except (ExportError, LoadError, redis.RedisError, RedisClusterException) as error:
        before = f" ({done} masters hold the new encoder; run this again)" if done else ""
        print(f"keymiss.models.load_encoder: {error}{before}", file=sys.stderr)
        return 1
    print(
        f"{done} masters hold {encoder.sha256[:12]} ({encoder.backend}, {len(encoder.blob) / 1e6:.1f} MB), "
        f"{time.monotonic() - began_s:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
