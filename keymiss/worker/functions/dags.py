"""DAGs: models and scripts run one after the other on tensors that have names and need no keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keymiss.reading.backends.base import ModelError
from keymiss.reading.tensors import Tensor, TensorError
from keymiss.worker.functions.job_context import JobContext
from keymiss.worker.script_run import ScriptRun


@dataclass(frozen=True)
class SetStep:
    """A tensor gets a name."""

    name: str
    tensor: Tensor


@dataclass(frozen=True)
class GetStep:
    """A tensor is asked for; `parts` are those of AI.TENSORGET."""

    name: str
    parts: int


@dataclass(frozen=True)
class ModelStep:
    """A model runs."""

    key: str
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class ScriptStep:
    """A function of a script runs."""

    key: str
    function: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    keys: Sequence[str] = ()
    args: Sequence[str] = ()
    list_at: int = -1


Step = SetStep | GetStep | ModelStep | ScriptStep


@dataclass(frozen=True)
class NotRun:
    """What became of a step behind one that failed, or of a tensor that there is therefore not."""


Outcome = Tensor | Exception | NotRun | None
"""None: it ran. A tensor: it was asked for."""


def run_steps(
    context: JobContext, steps: Iterable[Step], tensors: dict[str, Tensor], read_only: bool = False
) -> list[Outcome]:
    """Runs them in their order; `tensors` has those that are there, and then also what the steps made. Behind
    a step that failed nothing runs any more, but what is there can be asked for."""
    outcomes: list[Outcome] = []
    failed = False
    for step in steps:
        if isinstance(step, SetStep):
            tensors[step.name] = step.tensor
            outcomes.append(None)
        elif isinstance(step, GetStep):
            outcomes.append(tensors.get(step.name, NotRun()))
        else:
            outcome = NotRun() if failed else _run(context, step, tensors, read_only)
            if outcome is not None:
                failed = True
                for name in step.outputs:
                    tensors.pop(name, None)
            outcomes.append(outcome)
    return outcomes


def _run(
    context: JobContext, step: ModelStep | ScriptStep, tensors: dict[str, Tensor], read_only: bool
) -> Exception | None:
    try:
        inputs = [_named(tensors, name) for name in step.inputs]
        made = _outputs(context, step, inputs, read_only)
    except (ModelError, TensorError) as error:
        return error
    tensors.update(zip(step.outputs, made, strict=False))
    return None


def _named(tensors: dict[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise TensorError(f"INPUT key cannot be found in DAG: {name}")
    return tensors[name]


def _outputs(
    context: JobContext, step: ModelStep | ScriptStep, inputs: list[Tensor], read_only: bool
) -> list[Tensor]:
    services, shard, connection = context.services, context.shard, context.connection
    result: Any
    if isinstance(step, ModelStep):
        result = services.models.run(shard, connection, step.key, inputs, len(step.outputs))
    else:
        run = ScriptRun(
            step.key, step.function, inputs, len(step.outputs), step.keys, step.args, step.list_at, read_only
        )
        result = services.torch_scripts.run(shard, connection, run)
    context.count_model_run(result.duration_us)
    outputs: list[Tensor] = result.outputs
    return outputs
