"""Tokenize the sentences of sentence:<article>:{tag} when the hash is written; delete the tensors of those
that are gone.

For each field idx: an INT64 tensor [1, n] at tokenized:bert:qa:<article>:{tag}:<idx>. What it was made from
is noted in tokens:<article>:{tag} afterwards (idx -> mark), so that only what changed is made again; before,
that there will be one (idx -> nothing), so that no tensor is forgotten when the worker dies between the two.
Sentences that the server evicted are noted in evicted:{tag} until they are there again.
"""

from typing import TYPE_CHECKING

import redisAI

from keymiss.keys import model_key, parse_article_key, tokenized_key, tokens_key
from keymiss.pipeline.changes import changes
from keymiss.pipeline.records import Record, as_dict, as_list, has_text_key, parts
from keymiss.pipeline.tokens import token_mark, token_tensor
from keymiss.worker.functions.evictions import note_evicted, there_again
from keymiss.worker.functions.left_behind import left_behind
from keymiss.worker.functions.readers import reader_for_tokens

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, execute, hashtag

DELETED_AT_ONCE = 1000


def tokenize_article(record: Record) -> None:
    article, tag = parse_article_key(record["key"])
    noted = tokens_key(article, tag)
    known = as_dict(execute("HGETALL", noted))
    if record["event"] == "evicted" and record["value"] is None:
        note_evicted(record["key"], len(known))
    found = changes(record["value"], known, token_mark)
    if found.new:
        ids = reader_for_tokens(model_key(hashtag())).token_ids(list(found.new.values()))
        names = [tokenized_key(article, tag, idx) for idx in found.new]
        execute("HSET", noted, *as_list(dict.fromkeys(found.new, "")))
        redisAI.msetTensorsInKeyspace(dict(zip(names, map(token_tensor, ids), strict=True)))
        execute("HSET", noted, *as_list({idx: token_mark(text) for idx, text in found.new.items()}))
        there_again(record["key"])
    for some in parts(found.gone, DELETED_AT_ONCE):
        execute("UNLINK", *(tokenized_key(article, tag, idx) for idx in some))
        execute("HDEL", noted, *some)


GB("KeysReader", desc="tokenize sentences").filter(has_text_key).foreach(tokenize_article).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup"),
    ],
    keyTypes=["hash"],
    mode="async_local",
)
GB("KeysReader", desc="tokens of deleted sentences").filter(has_text_key).foreach(left_behind).register(
    prefix="tokens:", eventTypes=["catchup"], keyTypes=["hash"], mode="async_local", readValue=False
)
