"""Make vectors of the sentences of sentence:<article>:{tag} when the hash is written.

vectors:<article>:{tag} has them (idx -> marks of the sentence and the encoder, and the vector:
keymiss.reading.stored_vector), so only what changed is encoded again. The encoder is the shard's model
bert-encoder; without one there are no vectors, and with another one all are made anew.
"""

from functools import partial
from typing import TYPE_CHECKING

from keymiss import keys
from keymiss.corpus.key_events import keys_with, notify
from keymiss.pipeline.changes import changes
from keymiss.pipeline.records import Record, as_dict, as_list, has_text_key, parts
from keymiss.pipeline.vectors import vector_marks, vectors_of
from keymiss.reading.stored_vector import to_field, vector_mark
from keymiss.worker.functions.evictions import there_again
from keymiss.worker.functions.left_behind import left_behind
from keymiss.worker.functions.model_runs import run_encoder, version_of
from keymiss.worker.functions.readers import encoder_of

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, execute

FIELDS_AT_ONCE = 500


async def encode_article(record: Record) -> None:
    key = keys.vectors_key(*keys.parse_article_key(record["key"]))
    version, encoder = version_of(keys.ENCODER), encoder_of(keys.ENCODER)
    run = partial(run_encoder, keys.ENCODER)
    made_by = encoder.mark if encoder else b""
    marks = vector_marks(as_dict(execute("HGETALL", key)))
    found = changes(record["value"], marks, lambda text: vector_mark(text, made_by))
    for some in parts(list(found.new.items()), FIELDS_AT_ONCE):
        if encoder is None:
            break  # what is gone goes all the same
        vectors = await vectors_of(encoder, [encoder.sentence(text) for _, text in some], run)
        pairs = zip(some, vectors, strict=True)
        fields = {idx: to_field(text, vector, made_by) for (idx, text), vector in pairs}
        if version_of(keys.ENCODER) != version:  # it was replaced: some of these may be of the old one
            execute("KM.NOTIFY", "vectors", record["key"])
            return
        execute("HSET", key, *as_list(fields))
    if (encoder and found.new) or not record["value"]:
        there_again(key)
    for gone in parts(found.gone, FIELDS_AT_ONCE):
        execute("HDEL", key, *gone)


def encoder_changed(record: Record) -> None:
    """Every vector of this shard is of the old encoder."""
    for names in keys_with(execute, keys.VECTORS_PREFIX, "hash"):
        for name in names:
            execute("UNLINK", name)
    notify(execute, "vectors", keys.SENTENCE_PREFIX, "hash")


GB("KeysReader", desc="vectors of sentences").filter(has_text_key).foreach(encode_article).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup", "vectors"),
    ],
    keyTypes=["hash"],
    mode="async_local",
    coalesce=True,
)
GB("KeysReader", desc="vectors of deleted sentences").filter(has_text_key).foreach(left_behind).register(
    prefix="vectors:",
    eventTypes=["catchup", "evicted"],
    keyTypes=["hash"],
    mode="async_local",
    readValue=False,
    coalesce=True,
)
GB("KeysReader", desc="encoder").foreach(encoder_changed).register(
    prefix="bert-encoder", eventTypes=["modelstore"], mode="async_local", readValue=False, coalesce=True
)
