"""The `redisAI` module of gears functions: tensors, runs of models and scripts, DAGs on the job's shard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

from keymiss.reading import tensors
from keymiss.reading.backends.base import ModelError
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.dag_runner import DAGRunner
from keymiss.worker.functions.job_context import GearsError, JobContext, current
from keymiss.worker.functions.outcomes import outcome_of
from keymiss.worker.like_runs import LikeRuns, while_others_wait
from keymiss.worker.script_run import ScriptRun


@dataclass
class ModelRun:
    """A run that is being put together: `createModelRunner` makes it."""

    model_key: str
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise GearsError(f"expected a tensor, got {type(value).__name__}")
    return value


def _run(value: Any) -> ModelRun:
    if not isinstance(value, ModelRun):
        raise GearsError(f"expected a model runner, got {type(value).__name__}")
    return value


def create_tensor_from_blob(type_name: str, dims: Iterable[int], blob: bytes | bytearray) -> Tensor:
    """`blob` has the values in C order, little-endian."""
    return tensors.from_blob(type_name, dims, blob)


def create_tensor_from_values(type_name: str, dims: Iterable[int], values: Iterable[Any]) -> Tensor:
    """`values` are flat, in C order."""
    return tensors.from_values(type_name, dims, values)


def set_tensor_in_key(key: str | bytes, tensor: Tensor) -> None:
    """Stores a tensor on the job's shard."""
    mset_tensors_in_keyspace({key: tensor})


def mset_tensors_in_keyspace(by_key: Mapping[str | bytes, Tensor]) -> None:
    """Stores several."""
    context = current()
    context.ran_commands()
    tensors.set_tensors(context.connection, [(key, _tensor(tensor)) for key, tensor in by_key.items()])


def get_tensor_from_key(key: str | bytes) -> Tensor:
    """TensorError if there is none."""
    return tensors.get_tensors(current().connection, [key])[0]


def mget_tensors_from_keyspace(keys: Sequence[str | bytes]) -> list[Tensor]:
    """Reads several. TensorError if one is missing."""
    return tensors.get_tensors(current().connection, list(keys))


def tensor_to_flat_list(tensor: Tensor) -> list[Any]:
    """Its values in C order: floats, ints or bools."""
    values: list[Any] = _tensor(tensor).array.ravel().tolist()
    return values


def tensor_get_data_as_blob(tensor: Tensor) -> bytearray:
    """Its bytes in C order, little-endian."""
    return bytearray(_tensor(tensor).blob)


def tensor_get_dims(tensor: Tensor) -> tuple[int, ...]:
    """Its shape."""
    return _tensor(tensor).dims


def create_model_runner(model_key: str | bytes) -> ModelRun:
    """A run of the model at `model_key` on the job's shard."""
    return ModelRun(model_key.decode() if isinstance(model_key, bytes) else str(model_key))


def model_runner_add_input(runner: ModelRun, first: Any, second: Any) -> int:
    """Adds an input; order counts, names do not. RedisGears' manual has (runner, tensor, name), its
    code (runner, name, tensor): both work."""
    tensor = first if isinstance(first, Tensor) else second
    _run(runner).inputs.append(_tensor(tensor))
    return 1


def model_runner_add_output(runner: ModelRun, name: str) -> int:
    """Adds a place for an output."""
    _run(runner).outputs.append(str(name))
    return 1


def model_runner_run(runner: ModelRun) -> list[Tensor]:
    """Runs and waits. ModelError with the reason if it fails."""
    context, run = current(), _run(runner)
    result = context.services.models.run(
        context.shard, context.connection, run.model_key, run.inputs, len(run.outputs)
    )
    context.count_model_run(result.duration_us)
    return result.outputs


async def model_runner_run_async(runner: ModelRun) -> list[Tensor]:
    """Runs; other coroutines of the function go on meanwhile. ModelError if it fails."""
    context, run = current(), _run(runner)
    if context.others:  # a function of several misses may ask for several runs at once
        return await _asked_at_once(context, run)(run)
    return await _run_alone(run)


async def _run_alone(run: ModelRun) -> list[Tensor]:
    context = current()
    models = context.services.models
    future = models.start(context.shard, context.connection, run.model_key, run.inputs)
    with suppress(ModelError):  # `finish` raises it
        await outcome_of(future)
    result = models.finish(context.connection, run.model_key, run.inputs, future, len(run.outputs))
    context.count_model_run(result.duration_us)
    return result.outputs


async def _run_in_turn(runs: Sequence[ModelRun]) -> list[list[Tensor]]:
    context = current()
    models, key, many = context.services.models, runs[0].model_key, [run.inputs for run in runs]
    future = models.start_in_turn(context.shard, context.connection, key, many)
    await outcome_of(future)
    outputs = [len(run.outputs) for run in runs]
    made = models.finish_in_turn(context.connection, key, many, future, outputs)
    for took_us in future.result().took_us:
        context.count_model_run(took_us)
    return made


MODELS_KEPT = 256
"""Of which a thread remembers how runs are put together; that is soon made again."""

_AtOnce = LikeRuns[ModelRun, list[Tensor]]


def _asked_at_once(context: JobContext, run: ModelRun) -> _AtOnce:
    """Which run waits for others of its model that are asked for now."""
    kept: dict[object, _AtOnce] = event_loops.kept_with(asyncio.get_running_loop())
    like = context.shard, run.model_key, len(run.inputs)
    if like not in kept:
        if len(kept) >= MODELS_KEPT:
            kept.clear()
        models = context.services.models
        run_s = partial(models.store.run_s, context.shard, run.model_key)
        at_most = while_others_wait(models.pending, models.processes, run_s)
        kept[like] = LikeRuns(_run_alone, _run_in_turn, at_most, _rows_and_columns)
    return kept[like]


def _rows_and_columns(run: ModelRun) -> int:
    return prod(run.inputs[0].dims[:2]) if run.inputs else 0


@dataclass
class ScriptCall:
    """A call of a script's function that is being put together: `createScriptRunner` makes it."""

    key: str
    function: str
    inputs: list[Tensor] = field(default_factory=list)
    outputs: int = 0
    list_at: int = -1

    def as_run(self) -> ScriptRun:
        """What the worker runs."""
        return ScriptRun(self.key, self.function, self.inputs, self.outputs, list_at=self.list_at)


def _call(value: Any) -> ScriptCall:
    if not isinstance(value, ScriptCall):
        raise GearsError(f"expected a script runner, got {type(value).__name__}")
    return value


def create_script_runner(script_key: str | bytes, function: str) -> ScriptCall:
    """A call of a function of the script at `script_key` on the job's shard."""
    return ScriptCall(
        script_key.decode() if isinstance(script_key, bytes) else str(script_key), str(function)
    )


def script_runner_add_input(runner: ScriptCall, tensor: Tensor) -> int:
    """Adds a tensor."""
    _call(runner).inputs.append(_tensor(tensor))
    return 1


def script_runner_add_input_list(runner: ScriptCall, given: Iterable[Tensor]) -> None:
    """Adds tensors that are one list, which is the last that the function takes."""
    call = _call(runner)
    if call.list_at >= 0:
        raise GearsError("Already encountered a variable size list of tensors")
    call.list_at = len(call.inputs)
    call.inputs += [_tensor(tensor) for tensor in given]


def script_runner_add_output(runner: ScriptCall) -> int:
    """Adds a place for an output."""
    _call(runner).outputs += 1
    return 1


def script_runner_run(runner: ScriptCall) -> list[Tensor]:
    """Runs and waits. ModelError with the reason if it fails."""
    context, run = current(), _call(runner).as_run()
    try:
        result = context.services.torch_scripts.run(context.shard, context.connection, run)
    except ModelError as error:
        raise ModelError(error.reason) from error
    context.count_model_run(result.duration_us)
    return result.outputs


async def script_runner_run_async(runner: ScriptCall) -> list[Tensor]:
    """Runs; other coroutines of the function go on meanwhile. ModelError if it fails."""
    context, run = current(), _call(runner).as_run()
    scripts = context.services.torch_scripts
    try:
        future = scripts.start(context.shard, context.connection, run)
        with suppress(ModelError):
            await outcome_of(future)
        result = scripts.finish(context.connection, run, future)
    except ModelError as error:
        raise ModelError(error.reason) from error
    context.count_model_run(result.duration_us)
    return result.outputs


def create_dag_runner() -> DAGRunner:
    """An empty DAG, on the job's shard."""
    return DAGRunner()


MEMBERS: dict[str, Any] = {
    "PyTensor": Tensor,
    "createTensorFromBlob": create_tensor_from_blob,
    "createTensorFromValues": create_tensor_from_values,
    "setTensorInKey": set_tensor_in_key,
    "msetTensorsInKeyspace": mset_tensors_in_keyspace,
    "getTensorFromKey": get_tensor_from_key,
    "mgetTensorsFromKeyspace": mget_tensors_from_keyspace,
    "tensorToFlatList": tensor_to_flat_list,
    "tensorGetDataAsBlob": tensor_get_data_as_blob,
    "tensorGetDims": tensor_get_dims,
    "createModelRunner": create_model_runner,
    "modelRunnerAddInput": model_runner_add_input,
    "modelRunnerAddOutput": model_runner_add_output,
    "modelRunnerRun": model_runner_run,
    "modelRunnerRunAsync": model_runner_run_async,
    "createScriptRunner": create_script_runner,
    "scriptRunnerAddInput": script_runner_add_input,
    "scriptRunnerAddInputList": script_runner_add_input_list,
    "scriptRunnerAddOutput": script_runner_add_output,
    "scriptRunnerRun": script_runner_run,
    "scriptRunnerRunAsync": script_runner_run_async,
    "createDAGRunner": create_dag_runner,
}
