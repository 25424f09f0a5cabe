"""Tokenize the sentences of sentence:<article>:{tag} when the hash is written; delete the tensors of those
that are gone.

For each field idx: an INT64 tensor [1, n] at tokenized:bert:qa:<article>:{tag}:<idx>, and the characters of
each token at offsets:bert:qa:<article>:{tag}:<idx>. What they were made from is in tokens:<article>:{tag}
(idx -> mark), written with them, so that only what changed is made again. Sentences that the server evicted
are noted in evicted:{part} until they are there again.
"""

from functools import partial
from typing import TYPE_CHECKING

from keymiss.keys import READER, offsets_key, parse_article_key, tokenized_key, tokens_key
from keymiss.pipeline.changes import changes
from keymiss.pipeline.kept_tensors import Made, write_command
from keymiss.pipeline.records import Record, as_dict, has_text_key, parts
from keymiss.pipeline.tokens import offsets_tensor, token_mark, token_tensor
from keymiss.worker.functions.evictions import note_evicted, there_again
from keymiss.worker.functions.left_behind import left_behind
from keymiss.worker.functions.readers import reader_for_tokens

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, execute

DELETED_AT_ONCE = 1000
SENTENCES_A_SCRIPT = 100


def tokenize_article(record: Record) -> None:
    article, tag = parse_article_key(record["key"])
    noted = tokens_key(article, tag)
    known = as_dict(execute("HGETALL", noted))
    if record["event"] == "evicted" and record["value"] is None:
        note_evicted(record["key"], len(known))
    reader = reader_for_tokens(READER)
    mark_of = partial(token_mark, tokenizer_digest=reader.tokenizer_digest)
    found = changes(record["value"], known, mark_of)
    for new in parts(list(found.new.items()), SENTENCES_A_SCRIPT):
        made = []
        for (idx, text), sentence in zip(new, reader.sentences([text for _, text in new]), strict=True):
            tensors = {
                tokenized_key(article, tag, idx): token_tensor(sentence.ids),
                offsets_key(article, tag, idx): offsets_tensor(sentence.offsets),
            }
            made.append(Made(idx, text, mark_of(text), tensors))
        execute(*write_command(record["key"], noted, made))
    if found.new:
        there_again(record["key"])
    for some in parts(found.gone, DELETED_AT_ONCE):
        execute("UNLINK", *(key(article, tag, idx) for idx in some for key in (tokenized_key, offsets_key)))
        execute("HDEL", noted, *some)


GB("KeysReader", desc="tokenize sentences").filter(has_text_key).foreach(tokenize_article).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup"),
    ],
    keyTypes=["hash"],
    mode="async_local",
    coalesce=True,
)
GB("KeysReader", desc="tokens of deleted sentences").filter(has_text_key).foreach(left_behind).register(
    prefix="tokens:",
    eventTypes=["catchup"],
    keyTypes=["hash"],
    mode="async_local",
    readValue=False,
    coalesce=True,
)
