# ruff: noqa: F821 - the names are the gears runtime's
"""Split an article into sentences when paragraphs:<article> is written; take them out when it is deleted.

The sentences go to sentence:<article>:{tag} on the same shard, what was done to state:<article>:{tag}.
English is kept; a paragraph in another language is left out, and so is an article that is mostly so. Nothing
is written when the text and the article's year are what they were, unless the sentences are gone.
A text that the server evicted takes its sentences along, and is noted in evicted:{tag} until it is there
again.
"""

VERSION = "1"  # another one splits every article again

# KEYS: sentences, state, evicted. ARGV: number of fields and values to set, they, number of fields to delete,
# they, number of what is not evicted any more, they, state.
WRITE = """
local at = 1
local function take(n)
    local part = {}
    for i = at, at + n - 1 do part[#part + 1] = ARGV[i] end
    at = at + n
    return part
end
local function in_parts(command, key, n)
    while n > 0 do
        local size = math.min(n, 4000)
        redis.call(command, key, unpack(take(size)))
        n = n - size
    end
end
in_parts('HSET', KEYS[1], tonumber(take(1)[1]))
in_parts('HDEL', KEYS[1], tonumber(take(1)[1]))
in_parts('HDEL', KEYS[3], tonumber(take(1)[1]))
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(take(#ARGV - at + 1)))
return redis.status_reply('OK')
"""


def year_of(name):
    from keymiss.keys import article_key
    from keymiss.worker.functions.other_shards import execute_at

    key = article_key(name)
    year = execute_at(key, "HGET", key, "year")
    return year if isinstance(year, str) and year.isdecimal() else ""


def sentences_in(text):
    """(sentences, number of each one's paragraph, what the state says of the language)"""
    from keymiss.corpus.prose import languages_of, paragraphs_of, sentences_of

    if not isinstance(text, str):
        return [], [], {"language": "", "skipped": "the text is not UTF-8"}
    paragraphs = paragraphs_of(text)
    languages = languages_of(paragraphs)
    state = {"language": languages.main}
    if languages.others:
        state["left_out"] = " ".join(f"{code}:{n}" for code, n in sorted(languages.others.items()))
    if languages.main != "en":
        return [], [], state | {"skipped": f"the language is {languages.main}, not en"}
    found, paragraph_of = [], []
    for number in languages.kept:
        here = sentences_of(paragraphs[number])
        found += here
        paragraph_of += [number] * len(here)
    if not found:
        state["skipped"] = "there is no sentence"
    return found, paragraph_of, state


def repaired(sentences):
    from keymiss.corpus.spelling import Repair
    from keymiss.worker.functions.concept_tables import matcher_here

    repair = Repair(matcher_here())
    return [repair.sentence(sentence) for sentence in sentences]


def split(record):
    import hashlib
    import json

    from keymiss.keys import evicted_key, sentence_key, state_key
    from keymiss.worker.functions.evictions import note_evicted, there_again

    if not isinstance(record["key"], str):
        return  # not UTF-8
    name = record["key"][len("paragraphs:") :]
    tag = hashtag()
    sentence, state, evicted = sentence_key(name, tag), state_key(name, tag), evicted_key(tag)
    noted = [record["key"], sentence]
    if record["type"] != "string" or record["value"] is None:  # None: gone since its type was asked for
        if record["event"] == "evicted":
            note_evicted(record["key"], int(execute("HGET", state, "sentences") or 0))
        elif record["event"] in ON_PURPOSE:
            there_again(*noted)
        execute("UNLINK", sentence, state)
        return
    text, year = record["value"], year_of(name)
    spelling = GearsConfigGet("spelling", "no")
    raw = text if isinstance(text, bytes) else text.encode()
    digest = hashlib.sha1(f"{VERSION} {year} {spelling} ".encode() + raw).hexdigest()
    digest_before, year_before, n_before = execute("HMGET", state, "paragraphs", "year", "sentences")
    gone = n_before not in (None, "0") and not execute("EXISTS", sentence)
    if digest_before == digest and not gone:
        return
    sentences, paragraph_of, said = sentences_in(text)
    if spelling == "yes":
        sentences = repaired(sentences)
    flat = execute("HGETALL", sentence)
    there = dict(zip(flat[::2], flat[1::2]))  # noqa: B905 - RedisGears 1.2 has Python 3.7
    changed = []
    for idx, one in enumerate(sentences):
        if there.pop(str(idx), None) != one:
            changed += [str(idx), one]
    if sentences and not changed and year != year_before:
        changed = ["0", sentences[0]]  # as it was: an event for the functions that read the year
    said |= {
        "paragraphs": digest,
        "text": hashlib.sha1(raw).hexdigest(),  # shows whether all this is of the text as it is
        "sentences": len(sentences),
        "paragraph_of": json.dumps(paragraph_of, separators=(",", ":")),
        "year": year,
    }
    fields = [part for pair in said.items() for part in pair]
    parts = [len(changed), *changed, len(there), *there, len(noted), *noted, *fields]
    execute("EVAL", WRITE, "3", sentence, state, evicted, *parts)
    if year_of(name) != year:  # the article's hash was written meanwhile
        execute("KM.NOTIFY", "catchup", record["key"])


def left_behind(record):
    """The state of an article that was deleted, and the event was lost (see keymiss.corpus.catchup)."""
    from keymiss.worker.functions.other_shards import execute_at

    if not isinstance(record["key"], str):
        return
    key = "paragraphs:" + record["key"][len("state:") : record["key"].rfind(":{")]
    if not execute_at(key, "EXISTS", key):
        execute_at(key, "KM.NOTIFY", "catchup", key)  # not "del": it may have been evicted


def year_changed(record):
    from keymiss.keys import evicted_key, paragraphs_key, state_key
    from keymiss.worker.functions.other_shards import execute_at, tag_of

    if not isinstance(record["key"], str):
        return
    name = record["key"][len("article:") :]
    key = paragraphs_key(name)
    if record["event"] == "del" and not execute_at(key, "EXISTS", key):  # its text was evicted before
        execute_at(key, "HDEL", evicted_key(tag_of(key)), key)
    known = execute_at(key, "HGET", state_key(name, tag_of(key)), "year")
    if known is not None and known != year_of(name):
        execute_at(key, "KM.NOTIFY", "catchup", key)


def list_evicted(record):
    """evicted:{tag} itself: what it had is not known any more."""
    from keymiss.worker.functions.evictions import note_evicted

    note_evicted(record["key"], 0)


ON_PURPOSE = ["del", "expired", "rename_from"]
GONE = [*ON_PURPOSE, "evicted"]
HERE = ["rename_to", "restore", "copy_to", "catchup"]

GB("KeysReader", desc="split articles").foreach(split).register(
    prefix="paragraphs:", eventTypes=["set", "append", "setrange", *GONE, *HERE], mode="async_local"
)
GB("KeysReader", desc="deleted articles").foreach(left_behind).register(
    prefix="state:", eventTypes=["catchup"], keyTypes=["hash"], mode="async_local", readValue=False
)
GB("KeysReader", desc="list of evicted keys").foreach(list_evicted).register(
    prefix="evicted:", eventTypes=["evicted"], mode="async_local", readValue=False
)
GB("KeysReader", desc="years of articles").foreach(year_changed).register(
    prefix="article:", eventTypes=["hset", "hdel", *GONE, *HERE[:-1]], mode="async_local"
)
