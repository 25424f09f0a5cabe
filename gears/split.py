"""Split an article into sentences when paragraphs:<article> is written; delete them when it is deleted.

The sentences go to sentence:<article>:{tag} in the text's own slot, what was done to state:<article>:{tag}.
English is kept; a paragraph in another language is left out, and so is an article that is mostly so. Nothing
is written when the text and the article's year are what they were, unless the sentences are gone.
A text that the server evicted takes its sentences along, and is noted in evicted:{part} until it is there
again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from keymiss.keys import article_key, article_of, article_tag, paragraphs_key, sentence_key, state_key
from keymiss.pipeline.records import Record, as_dict, has_text_key
from keymiss.pipeline.splitting import sentence_changes, source_digest, split_text, write_command
from keymiss.worker.functions.concept_tables import matcher_here
from keymiss.worker.functions.evictions import note_evicted, there_again
from keymiss.worker.functions.left_behind import left_behind
from keymiss.worker.functions.other_shards import execute_at

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, GearsConfigGet, execute

ON_PURPOSE = ["del", "expired", "rename_from"]
GONE = [*ON_PURPOSE, "evicted"]
HERE = ["rename_to", "restore", "copy_to", "catchup"]


def year_of(article: str) -> str:
    key = article_key(article)
    year = execute_at(key, "HGET", key, "year")
    return year if isinstance(year, str) and year.isdecimal() else ""


def repair_here() -> Callable[[str], str]:
    from keymiss.corpus.spelling import Repair  # 100 MB of dictionary, and off as a rule

    return Repair(matcher_here()).sentence


def split(record: Record) -> None:
    text_key, text = record["key"], record["value"]
    article = article_of(text_key)
    tag = article_tag(article)
    sentences, state = sentence_key(article, tag), state_key(article, tag)
    if record["type"] != "string" or text is None:  # None: gone since its type was asked for
        if record["event"] == "evicted":
            note_evicted(text_key, int(execute("HGET", state, "sentences") or 0))
        elif record["event"] in ON_PURPOSE:
            there_again(text_key, sentences)
        execute("UNLINK", sentences, state)
        return
    year, spelling = year_of(article), GearsConfigGet("spelling", "no")
    digest = source_digest(text, year, spelling)
    digest_before, year_before, n_before = execute("HMGET", state, "paragraphs", "year", "sentences")
    gone = n_before not in (None, "0") and not execute("EXISTS", sentences)
    if digest_before == digest and not gone:
        return
    found = split_text(text, repair_here() if spelling == "yes" else None)
    change = sentence_changes(found.sentences, as_dict(execute("HGETALL", sentences)), year != year_before)
    said = {**found.said, "paragraphs": digest, "year": year}
    execute(*write_command((sentences, change), (state, said)))
    there_again(text_key, sentences)
    if found.sentences and not execute("EXISTS", sentences):  # evicted since, and that was noted too early
        note_evicted(sentences, len(found.sentences))
    if year_of(article) != year:  # the article's hash was written meanwhile
        execute("KM.NOTIFY", "catchup", text_key)


def year_changed(record: Record) -> None:
    article = article_of(record["key"])
    key = paragraphs_key(article)
    if record["event"] == "del" and not execute_at(key, "EXISTS", key):  # its text was evicted before
        there_again(key)
    known = execute_at(key, "HGET", state_key(article, article_tag(article)), "year")
    if known is not None and known != year_of(article):
        execute_at(key, "KM.NOTIFY", "catchup", key)


def list_evicted(record: Record) -> None:
    """evicted:{part} itself: what it had is not known any more."""
    note_evicted(record["key"], 0)


GB("KeysReader", desc="split articles").filter(has_text_key).foreach(split).register(
    prefix="paragraphs:",
    eventTypes=["set", "append", "setrange", *GONE, *HERE],
    mode="async_local",
    coalesce=True,
)
GB("KeysReader", desc="deleted articles").filter(has_text_key).foreach(left_behind).register(
    prefix="state:",
    eventTypes=["catchup"],
    keyTypes=["hash"],
    mode="async_local",
    readValue=False,
    coalesce=True,
)
GB("KeysReader", desc="list of evicted keys").foreach(list_evicted).register(
    prefix="evicted:", eventTypes=["evicted"], mode="async_local", readValue=False, coalesce=True
)
GB("KeysReader", desc="years of articles").filter(has_text_key).foreach(year_changed).register(
    prefix="article:", eventTypes=["hset", "hdel", *GONE, *HERE[:-1]], mode="async_local", coalesce=True
)
