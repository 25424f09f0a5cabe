"""A model of a shard for a run of misses: found once, run over arrays as often as need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

from keymiss.reading.backends.base import ModelError
from keymiss.reading.reader import About
from keymiss.reading.tensors import Tensor, from_array
from keymiss.worker.functions.job_context import current
from keymiss.worker.functions.outcomes import outcome_of
from keymiss.worker.functions.run_terms import RunTerms, current_terms
from keymiss.worker.metrics import ModelMetrics, samples_of
from keymiss.worker.model_processes.libraries import LoadedModel
from keymiss.worker.model_processes.run_queue import ModelResult

Submit = Callable[[LoadedModel, Sequence[Sequence[Tensor]], RunTerms], Future[ModelResult]]


def check_outputs(made: Sequence[Tensor], wanted: int, what: str = "model") -> None:
    """ModelError if there are more or less. `wanted`: 0 for any number; `what`: what ran."""
    if wanted and len(made) != wanted:
        raise ModelError(f"the {what} has {len(made)} outputs, {wanted} were asked for")


class ModelInUse:
    """The model as it was when it was looked up: another one that takes its key meanwhile is not seen. Its
    runs ask the shard nothing. It is made in the job that it runs for."""

    def __init__(
        self, key: str, model: LoadedModel, sha256: str, submit: Submit, metrics: ModelMetrics
    ) -> None:
        self._terms = current_terms()
        self.key, self.sha256 = key, sha256
        self._model, self._submit, self._metrics = model, submit, metrics
        self._ran = [0, 0, 0, 0]

    @property
    def about(self) -> About | None:
        """What its file says of itself."""
        return self._model.about

    @property
    def run_s(self) -> float:
        """How long a run takes, about."""
        return self._model.run_s

    async def run(self, arrays: Sequence[NDArray[Any]], outputs: int) -> list[NDArray[Any]]:
        """Its first outputs, so many. ModelError if it fails or has less."""
        (made,) = await self.run_in_turn([arrays], outputs)
        return made

    async def run_in_turn(
        self, many: Sequence[Sequence[NDArray[Any]]], outputs: int
    ) -> list[list[NDArray[Any]]]:
        """The same of each, one run after the other; if one of them fails, all of them do."""
        inputs = [[from_array(array) for array in arrays] for arrays in many]
        try:
            result = await outcome_of(self._submit(self._model, inputs, self._terms))
            made = result.outputs_of_each
            check_outputs(made[0], outputs)
        except ModelError as error:
            self._metrics.failed(self.key)
            self._count(0, 0, errors=1)
            raise ModelError(f"model {self.key}: {error}") from error
        context = current()
        for given, took_us in zip(inputs, result.took_us, strict=True):
            self._metrics.ran(self.key, given, result.queued_us / 1e6, took_us / 1e6)
            context.count_model_run(took_us)
            self._count(samples_of(given), took_us, errors=0)
        return [[tensor.array for tensor in one] for one in made]

    def _count(self, samples: int, duration_us: int, errors: int) -> None:
        more = (1, samples, duration_us, errors)
        self._ran = [so_far + new for so_far, new in zip(self._ran, more, strict=True)]

    def report(self) -> list[list[object]]:
        """The command that adds the runs since the last one to AI.INFO; none if there were none."""
        ran, self._ran = self._ran, [0, 0, 0, 0]
        return [["KM.MODELRAN", self.key, *ran]] if ran[0] else []
