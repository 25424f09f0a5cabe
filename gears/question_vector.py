"""Make the vector of a question: GET bertvec{tag}_<question> that missed. The encoder is the model at
bert-encoder{tag}. A vector that the shard refuses to keep is given all the same.
"""

from functools import partial
from typing import TYPE_CHECKING

from keymiss.keys import encoder_key, parse_vector_key
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
    key, model_key = text_of(record["key"], "the question"), encoder_key(hashtag())
    tag, question = parse_vector_key(key)
    version, encoder = version_of(model_key), encoder_of(model_key)
    if version is None or encoder is None:
        raise ValueError(f"there is no model {model_key} here: keymiss models load-encoder")
    (vector,) = await vectors_of(encoder, [encoder.question(question)], partial(run_encoder, model_key))
    value = question_to_bytes(vector, encoder.mark)
    if GearsConfigGet("cache", "yes") != "no" and tag == hashtag():
        with keeping("vector"):
            execute(*keep_command(version, {key: value}, GearsConfigGet("answer-ttl-s", "0")))
    override_reply(value)


GB("KeysReader", desc="vector of a question").foreach(encode_question).register(
    prefix="bertvec", eventTypes=["keymiss"], commands=["get"], mode="async_local"
)
