"""For gears functions: models on the job's shard, run over arrays.

from keymiss.worker.functions.model_runs import run_encoder, run_lower, version_of
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from keymiss.pipeline.model_version import ModelVersion, model_version
from keymiss.pipeline.states import States
from keymiss.reading.encoder import Batch
from keymiss.reading.reader import Ids
from keymiss.reading.stored_vector import Vector
from keymiss.reading.tensors import from_array
from keymiss.worker.functions.gears_api import execute
from keymiss.worker.functions.redisai_api import ModelRun, model_runner_run_async


def version_of(model_key: str) -> ModelVersion | None:
    """None when there is no such model."""
    return model_version(model_key, execute("KM.MODELINFO", model_key))


async def run_lower(model_key: str, ids: Ids, mask: Ids, types: Ids) -> States:
    """States, FLOAT [batch, tokens, width]. ModelError if the run fails."""
    (states,) = await _run(model_key, (ids, mask, types), ["states"])
    return states


async def run_encoder(model_key: str, batch: Batch) -> Vector:
    """FLOAT [batch, dimensions]. ModelError if the run fails."""
    (vectors,) = await _run(model_key, (batch.input_ids, batch.attention_mask), ["vectors"])
    return vectors


async def _run(model_key: str, inputs: Sequence[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
    run = ModelRun(model_key, [from_array(array) for array in inputs], outputs)
    return [tensor.array for tensor in await model_runner_run_async(run)]
