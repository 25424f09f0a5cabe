"""Runs a model of Keymiss a few times where it was loaded, before its runners are forked.

What a library makes at the first runs (TorchScript its optimized graph) is then made once, and shared.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from keymiss.reading.backends.base import FileModel, ModelError
from keymiss.reading.reader import UPPER, About
from keymiss.reading.tensors import Tensor

LENGTHS = (8, 16, 24)
"""TorchScript looks at two runs, and at the third one makes a graph that takes all lengths."""


def warm(model: FileModel) -> None:
    """Does nothing for one that does not say what it is: nobody knows its inputs. One that fails does so
    again when it is asked to run."""
    if model.about is not None:
        with suppress(ModelError):
            for tokens in LENGTHS:
                model.run(_inputs(model.about, len(model.inputs), tokens))


def _inputs(about: About, count: int, tokens: int) -> list[Tensor]:
    ids = Tensor(np.ones((1, tokens), np.int64))
    if about.half is not None and about.half.name == UPPER:
        return [Tensor(np.zeros((1, tokens, about.half.width), np.float32)), ids]
    return [ids] * count
