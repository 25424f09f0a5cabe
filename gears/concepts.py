"""Find the concepts in the sentences of sentence:<article>:{tag}; every pair of two goes to the stream
edges:{part}.

concepts:<article>:{tag} has what was found (idx -> year and ids). The stream gets the difference to that: an
entry "add" for a pair that a sentence has gained, "del" for one that it has lost, before what was found is
written: what is cut short in between comes again, and the graph counts an entry once. Concepts come from the
table at concept-table:{shard}.
"""

from functools import partial
from typing import TYPE_CHECKING

from keymiss.corpus.key_events import notify
from keymiss.keys import (
    SENTENCE_PREFIX,
    concepts_key,
    edges_key,
    parse_article_key,
    part_of,
    sentence_id,
    state_key,
)
from keymiss.pipeline.concepts import changed_concepts, edges_command, write_command
from keymiss.pipeline.records import Record, as_dict, has_text_key, parts
from keymiss.worker.functions.concept_tables import matcher_here
from keymiss.worker.functions.evictions import note_evicted, there_again
from keymiss.worker.functions.left_behind import left_behind
from keymiss.worker.functions.other_shards import execute_at

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, execute

SENTENCES_A_SCRIPT = 100


def find_concepts(record: Record) -> None:
    article, tag = parse_article_key(record["key"])
    key, stream = concepts_key(article, tag), edges_key(part_of(record["key"]))
    known = as_dict(execute("HGETALL", key))
    year = execute("HGET", state_key(article, tag), "year") or ""
    matcher, name_of = matcher_here(), partial(sentence_id, article, tag)
    changed = changed_concepts(record["value"], known, year, matcher.ids if matcher else None, name_of)
    for some in parts(changed, SENTENCES_A_SCRIPT):
        edges = edges_command(stream, some)
        if edges:
            execute_at(stream, *edges)
        execute(*write_command(key, some))
    if changed or not record["value"]:
        there_again(key)


def table_changed(record: Record) -> None:
    """Every sentence of this shard is looked at again. That a table was evicted is only noted."""
    if record["event"] == "evicted":
        note_evicted(record["key"], 0)
        return
    there_again(record["key"])
    notify(execute, "concepts", SENTENCE_PREFIX, "hash")


GB("KeysReader", desc="concepts of sentences").filter(has_text_key).foreach(find_concepts).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup", "concepts"),
    ],
    keyTypes=["hash"],
    mode="async_local",
    coalesce=True,
)
GB("KeysReader", desc="concepts of deleted sentences").filter(has_text_key).foreach(left_behind).register(
    prefix="concepts:",
    eventTypes=["catchup", "evicted"],
    keyTypes=["hash"],
    mode="async_local",
    readValue=False,
    coalesce=True,
)
GB("KeysReader", desc="concept table").foreach(table_changed).register(
    prefix="concept-table:",
    eventTypes=["hset", "del", "restore", "evicted"],
    mode="async_local",
    readValue=False,
    coalesce=True,
)
