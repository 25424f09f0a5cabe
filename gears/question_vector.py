"""Make the vector of a question: GET bertvec{tag}_<question> that missed. The encoder is the shard's
model bert-encoder. A vector that the shard refuses to keep is given all the same.
"""

from functools import partial
from typing import TYPE_CHECKING

from keymiss.keys import ENCODER, encoder_key, parse_vector_key
from keymiss.pipeline.model_version import keep_command
from keymiss.pipeline.records import Record, text_of
from keymiss.pipeline.vectors import vectors_of
from keymiss.reading.stored_vector import question_to_bytes
from keymiss.worker.functions.model_runs import run_encoder, version_of
from keymiss.worker.functions.readers import encoder_of
from keymiss.worker.not_kept import keeping

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, GearsConfigGet, execute, hashtag, override_reply


async def encode_question(record: Record) -> None:
    key = text_of(record["key"], "the question")
    question = parse_vector_key(key)[1]
    version, encoder = version_of(ENCODER), encoder_of(ENCODER)
    if version is None or encoder is None:
        raise ValueError(f"there is no model {encoder_key(hashtag())} here: keymiss models load-encoder")
    (vector,) = await vectors_of(encoder, [encoder.question(question)], partial(run_encoder, ENCODER))
    value = question_to_bytes(vector, encoder.mark)
    if GearsConfigGet("cache", "yes") != "no":
        with keeping("vector"):
            execute(*keep_command(version, {key: value}, GearsConfigGet("answer-ttl-s", "0")))
    override_reply(value)


GB("KeysReader", desc="vector of a question").foreach(encode_question).register(
    prefix="bertvec", eventTypes=["keymiss"], commands=["get"], mode="async_local"
)
