"""For gears functions: the reader of the job's shard, whole or split, for a run of misses.

from keymiss.worker.reader_in_use import ReaderInUse, ReaderVersions
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from keymiss import keys
from keymiss.pipeline.answers import Logits, Run
from keymiss.pipeline.model_version import ModelVersion, model_version
from keymiss.pipeline.states import SplitRun, States, max_state_tokens
from keymiss.reading.reader import Ids, Inputs, Reader
from keymiss.worker.functions.gears_api import hashtag
from keymiss.worker.functions.job_context import current
from keymiss.worker.functions.readers import checked_lower, reader_for
from keymiss.worker.like_runs import (
    LikeRuns,
    as_a_batch,
    for_each_process,
    gains_by_batches,
    tokens_of,
    while_others_wait,
    windows_alone,
)
from keymiss.worker.not_kept import KeptTogether
from keymiss.worker.split_runs import QuestionStates, keeps_states, run_lower
from keymiss.worker.stored_sentences import StoredSentence

if TYPE_CHECKING:
    from keymiss.worker.model_in_use import ModelInUse


READERS = (keys.READER, keys.LOWER_READER)
"""Keys of its two halves: `version_in` and `ReaderInUse.of` want to know of both."""


def version_in(infos: Sequence[Any]) -> ModelVersion | None:
    """None when there is no reader. `infos`: of READERS."""
    upper, lower = infos
    found = model_version(keys.READER, upper)
    return found and replace(found, lower=model_version(keys.LOWER_READER, lower))


def known_question_states(questions: Iterable[str]) -> dict[str, list[Any]]:
    """The commands that read the states of the questions, by key: of the lower half that was last used here.
    `ReaderInUse.of` takes the replies, and does without those of another one."""
    context = current()
    sha256 = context.services.models.store.digest_at(context.shard, keys.LOWER_READER)
    return {} if sha256 is None else dict(QuestionStates.read(sha256, question) for question in questions)


@dataclass(frozen=True)
class ReaderInUse:
    """The reader as it was when it was looked up. `lower` and `questions`: of a split one; `whole`: the run
    of one that is not."""

    version: ModelVersion
    reader: Reader
    model: ModelInUse
    lower: ModelInUse | None
    questions: QuestionStates | None
    whole: Run | None

    @classmethod
    def of(cls, infos: Sequence[Any], known_states: dict[str, Any]) -> ReaderInUse:
        """`known_states`: replies to the commands of `QuestionStates.read`. ValueError if there is no reader,
        or if its two halves are not of one; ModelError if a model is bad."""
        version = version_in(infos)
        if version is None:
            raise ValueError(f"there is no model {keys.model_key(hashtag())} on this shard")
        model = _use(version.key, infos[0])
        about = model.about
        reader = reader_for(version.key, about)
        if about is None or about.half is None:
            return cls(version, reader, model, None, None, _whole(model))
        if version.lower is None:
            raise ValueError(
                f"there is no model {keys.lower_model_key(hashtag())}: {version.key} is half of a reader"
            )
        lower = _use(version.lower.key, infos[1])
        lower_about = checked_lower(lower.key, lower.about)
        if lower_about.half is None or lower_about.half.pair != about.half.pair:
            raise ValueError(
                f"models {lower.key} and {version.key} are halves of two readers: keymiss models load"
            )
        questions = QuestionStates(lower, version.lower, known_states)
        return cls(version, reader, model, lower, questions, None)

    @property
    def sha256(self) -> str:
        """Of the model whose answers these are."""
        return self.model.sha256

    @property
    def lower_sha256(self) -> str:
        """Empty for a whole reader."""
        return self.lower.sha256 if self.lower else ""

    def run_over(self, stored: StoredSentence, kept: KeptTogether) -> Run:
        """The run over one sentence; what it makes of it is to be kept."""
        if self.whole is not None:
            return self.whole
        lower, questions, lower_version = self.lower, self.questions, self.version.lower
        assert lower is not None
        assert questions is not None
        assert lower_version is not None
        about = lower.about
        assert about is not None

        def made(states: States) -> None:
            if keeps_states() and len(states) == 1 and states.shape[1] <= max_state_tokens(about):
                stored.keep_states(states[0], lower_version, lower.sha256, kept)

        question = stored.asked.question
        return SplitRun(
            lambda ids: questions.of(question, ids, kept),
            partial(run_lower, lower),
            self._run_upper,
            stored.states,
            made,
        )

    async def _run_upper(self, states: States, mask: Ids) -> Sequence[Logits]:
        return await self.model.run((states, mask), 3)

    def reports(self) -> list[list[object]]:
        """The commands that add its runs to AI.INFO."""
        return [*self.model.report(), *(self.lower.report() if self.lower else [])]


def _whole(model: ModelInUse) -> Run:
    models = current().services.models

    async def run(inputs: Inputs) -> Sequence[Logits]:
        return await model.run(_arrays(inputs), 2)

    async def in_turn(many: Sequence[Inputs]) -> Sequence[Sequence[Logits]]:
        return await model.run_in_turn([_arrays(inputs) for inputs in many], 2)

    if model.about is not None and gains_by_batches(model.about):
        runs = LikeRuns(run, as_a_batch(run), for_each_process(models.processes), tokens_of)
    else:
        at_most = while_others_wait(models.pending, models.processes, lambda: model.run_s)
        runs = LikeRuns(run, in_turn, at_most, tokens_of)

    return windows_alone(run, runs)


def _arrays(inputs: Inputs) -> tuple[Ids, Ids, Ids]:
    return inputs.input_ids, inputs.attention_mask, inputs.token_type_ids


def _use(key: str, info: Sequence[Any]) -> ModelInUse:
    context = current()
    return context.services.models.use(context.shard, context.connection, key, info)
