"""Make the vector of a question: GET bertvec{tag}_<question> that missed. The encoder is the shard's
model bert-encoder. A vector that the shard refuses to keep is given all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keymiss.keys import ENCODER, parse_vector_key
from keymiss.pipeline.model_version import by_one_version, keep_command, model_version
from keymiss.pipeline.records import Record, text_of
from keymiss.reading.stored_vector import Vector, question_to_bytes
from keymiss.worker.encoder_in_use import EncoderInUse
from keymiss.worker.functions.event_loops import as_they_end
from keymiss.worker.functions.gears_api import execute_together
from keymiss.worker.model_infos import ModelInfos
from keymiss.worker.not_kept import KeptTogether

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, GearsConfigGet, fail_reply

AT_ONCE = 16
HELD_S = 0.005  # a vector waits so long for others, so that they are kept together


@dataclass(frozen=True)
class Asked:
    """A miss, its key and the question in it."""

    record: Record
    key: str
    question: str


async def encode_questions(records: list[Record]) -> None:
    left = []
    for record in records:
        try:
            key = text_of(record["key"], "the question")
            left.append(Asked(record, key, parse_vector_key(key)[1]))
        except ValueError as error:
            fail_reply(error, record)
    for asked in await by_one_version(left, encode_by_one_encoder):
        fail_reply(ValueError("the encoder was replaced three times while it made the vector"), asked.record)


async def encode_by_one_encoder(asked: Sequence[Asked]) -> Sequence[Asked]:
    """Encodes all but those that it gives back: the encoder was replaced before."""
    models = ModelInfos([ENCODER])
    (info,) = models.of(iter(execute_together(models.commands, raw=True)))
    try:
        encoder = EncoderInUse.of(info)
    except Exception:
        (now,) = models.now()
        if model_version(ENCODER, now) == model_version(ENCODER, info):
            raise
        return asked
    kept, again = KeptTogether(), list[Asked]()
    making = {encoder.question(one.question): one for one in asked}
    async for ended in as_they_end(making, HELD_S):
        values = [(value_of(one, made, encoder, kept), one.record) for one, made in ended]
        taken = kept.send_with_replies(encoder.model.report(), values, encoder.version)
        again += [one for (one, _), counts in zip(ended, taken, strict=True) if not counts]
    return again


def value_of(
    asked: Asked, made: Vector | Exception, encoder: EncoderInUse, kept: KeptTogether
) -> bytes | Exception:
    """What the client gets; it is to be kept."""
    if isinstance(made, Exception):
        return made
    value = question_to_bytes(made, encoder.encoder.mark)
    if GearsConfigGet("cache", "yes") != "no":
        ttl_s = GearsConfigGet("answer-ttl-s", "0")
        kept.add("vector", keep_command(encoder.version, {asked.key: value}, ttl_s))
    return value


GB("KeysReader", desc="vector of a question").foreach(encode_questions).register(
    prefix="bertvec", eventTypes=["keymiss"], commands=["get"], mode="async_local", missBatch=AT_ONCE
)
