"""Make the states of the sentences of sentence:<article>:{tag} when the hash is written, by the lower half of
a split reader: the shard's model bert-qa-lower. Without one there are no states.

For each field idx: a tensor at states:bert:qa:<article>:{tag}:<idx>; what it is of is in
lower:<article>:{tag} (idx -> digests of sentence and model), so only what changed is made again. All go when
the model changes, and are made anew. KEYMISS_GEARS_STATES=no in the worker's environment: none are kept.
"""

from functools import partial
from typing import TYPE_CHECKING

from keymiss import keys
from keymiss.corpus.key_events import notify
from keymiss.pipeline.changes import changes
from keymiss.pipeline.kept_tensors import Made, write_command
from keymiss.pipeline.records import Record, as_dict, has_text_key, parts
from keymiss.pipeline.states import max_state_tokens, state_mark, text_states, to_tensor
from keymiss.worker.functions.left_behind import left_behind
from keymiss.worker.functions.model_runs import run_lower, version_of
from keymiss.worker.functions.readers import lower_half, reader_of
from keymiss.worker.split_runs import keeps_states

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, execute

DELETED_AT_ONCE = 1000


async def keep_states(record: Record) -> None:
    article, tag = keys.parse_article_key(record["key"])
    marks = keys.lower_key(article, tag)
    model = version_of(keys.LOWER_READER) if keeps_states() else None
    sentences, known = (record["value"] if model else None), as_dict(execute("HGETALL", marks))
    if model is None:
        found = changes(None, known, str)
    else:
        about, sha256 = lower_half(keys.LOWER_READER)
        mark_of = partial(state_mark, model=sha256)
        found = changes(sentences, known, mark_of)
    for some in parts(found.gone, DELETED_AT_ONCE):
        execute("UNLINK", *(keys.states_key(article, tag, idx) for idx in some))
        execute("HDEL", marks, *some)
    if model is None or not found.new:
        return
    ids = reader_of(keys.LOWER_READER).sentence_ids(list(found.new.values()))
    short = [
        (idx, of_text)
        for idx, of_text in zip(found.new, ids, strict=True)
        if len(of_text) <= max_state_tokens(about)
    ]
    run = partial(run_lower, keys.LOWER_READER)
    async for some_states in text_states([of_text for _, of_text in short], run):
        made = []
        for place, states in some_states:
            idx, _ = short[place]
            text, tensors = found.new[idx], {keys.states_key(article, tag, idx): to_tensor(states)}
            made.append(Made(idx, text, mark_of(text), tensors))
        if not execute(*write_command(record["key"], marks, made, model)):
            return  # the model was replaced: what was made is of the old one, and its event comes


def lower_changed(record: Record) -> None:
    """The states of this shard are of the old model: KM.DERIVE takes them."""
    notify(execute, "states", keys.SENTENCE_PREFIX, "hash")


GB("KeysReader", desc="states of sentences").filter(has_text_key).foreach(keep_states).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup", "states"),
    ],
    keyTypes=["hash"],
    mode="async_local",
    coalesce=True,
)
GB("KeysReader", desc="states of deleted sentences").filter(has_text_key).foreach(left_behind).register(
    prefix="lower:",
    eventTypes=["catchup"],
    keyTypes=["hash"],
    mode="async_local",
    readValue=False,
    coalesce=True,
)
GB("KeysReader", desc="lower half of a reader").foreach(lower_changed).register(
    prefix="bert-qa-lower", eventTypes=["modelstore"], mode="async_local", readValue=False, coalesce=True
)
