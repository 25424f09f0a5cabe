"""For gears functions: the encoder of the job's shard, looked up once and run over texts.

from keymiss.worker.encoder_in_use import EncoderInUse
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keymiss.keys import ENCODER, encoder_key
from keymiss.pipeline.model_version import ModelVersion, model_version
from keymiss.pipeline.vectors import vectors_of
from keymiss.reading.encoder import Batch, Encoder
from keymiss.reading.stored_vector import Vector
from keymiss.worker.functions.gears_api import hashtag
from keymiss.worker.functions.job_context import current
from keymiss.worker.functions.readers import encoder_for

if TYPE_CHECKING:
    from keymiss.worker.model_in_use import ModelInUse


@dataclass(frozen=True)
class EncoderInUse:
    """The encoder as it was when it was looked up."""

    version: ModelVersion
    encoder: Encoder
    model: ModelInUse

    @classmethod
    def of(cls, info: Sequence[Any] | None) -> EncoderInUse:
        """`info`: the reply to KM.MODELINFO. ValueError if there is no encoder; ModelError if it is bad, or
        makes no vectors."""
        version = model_version(ENCODER, info)
        if version is None or info is None:
            raise ValueError(f"there is no model {encoder_key(hashtag())} here: keymiss models load-encoder")
        context = current()
        model = context.services.models.use(context.shard, context.connection, ENCODER, info)
        return cls(version, encoder_for(ENCODER, model.about, model.sha256), model)

    async def question(self, text: str) -> Vector:
        """FLOAT [dimensions]. ModelError if the run fails, TextError if it has no words."""
        made: Vector = (await vectors_of(self.encoder, [self.encoder.question(text)], self._run))[0]
        return made

    async def _run(self, batch: Batch) -> Vector:
        vectors: list[Vector] = await self.model.run((batch.input_ids, batch.attention_mask), 1)
        return vectors[0]
