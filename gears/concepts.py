# ruff: noqa: F821, B905 - the names are the gears runtime's; RedisGears 1.2 has Python 3.7
"""Find the concepts in the sentences of sentence:<article>:{tag}; every pair of two goes to the stream
edges:{tag}.

concepts:<article>:{tag} has what was found (idx -> year and ids). The stream gets the difference to that: an
entry "add" for a pair that a sentence has gained, "del" for one that it has lost, written in one script with
what was found, so that doing it again adds nothing. Concepts come from the table at concept-table:{tag}.
"""

MAX_CONCEPTS = 16  # of one sentence: 120 pairs. A list of fifty names says little about each pair of them.
SENTENCES_A_SCRIPT = 100

# KEYS: found, stream. ARGV: for each sentence idx, found ("" for none), number of entries, then six of each
# entry.
WRITE = """
local at = 1
while at < #ARGV do
    local idx, found, n = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
    at = at + 3
    if found == '' then redis.call('HDEL', KEYS[1], idx) else redis.call('HSET', KEYS[1], idx, found) end
    for i = 1, n do
        redis.call('XADD', KEYS[2], '*', 'op', ARGV[at], 'source', ARGV[at + 1], 'target', ARGV[at + 2],
            'sentence', ARGV[at + 3], 'score', ARGV[at + 4], 'year', ARGV[at + 5])
        at = at + 6
    end
end
return redis.status_reply('OK')
"""


def pairs_of(found):
    """{(source, target): (score, year)} of one field of concepts:…

    A sentence that speaks of two concepts says more about the pair than one that speaks of ten: the score is
    2 / n.
    """
    year, *ids = found.split(" ")
    score = f"{2 / max(len(ids), 2):.4g}"
    ids = sorted(ids)
    return {(a, b): (score, year) for i, a in enumerate(ids) for b in ids[i + 1 :]}


def entries_between(old, new, sentence):
    before, after = pairs_of(old), pairs_of(new)
    flat = []
    for (source, target), (score, year) in before.items():
        if (source, target) not in after or after[source, target][1] != year:
            flat += ["del", source, target, sentence, score, year]
    for pair, (score, year) in after.items():
        if before.get(pair) != (score, year):
            flat += ["add", *pair, sentence, score, year]
    return flat


def find_concepts(record):
    from keymiss.worker.functions.concept_tables import matcher_here
    from keymiss.worker.functions.evictions import there_again

    if not isinstance(record["key"], str):
        return  # not UTF-8
    name = record["key"][len("sentence:") :]
    tag = name[name.rfind(":{") + 1 :]
    key, stream = f"concepts:{name}", f"edges:{tag}"
    flat = execute("HGETALL", key)
    known = dict(zip(flat[::2], flat[1::2]))
    year = execute("HGET", f"state:{name}", "year") or ""
    matcher = matcher_here()
    changed = []
    for idx, sentence in (record["value"] or {}).items():
        ids = matcher.ids(sentence)[:MAX_CONCEPTS] if matcher and isinstance(sentence, str) else []
        found = " ".join([year, *ids]) if ids else ""
        old = known.pop(idx, "")
        if found != old:
            entries = entries_between(old, found, f"{name}:{idx}")
            changed.append([idx, found, len(entries) // 6, *entries])
    for idx, old in known.items():
        entries = entries_between(old, "", f"{name}:{idx}")
        changed.append([idx, "", len(entries) // 6, *entries])
    for at in range(0, len(changed), SENTENCES_A_SCRIPT):
        arguments = [part for one in changed[at : at + SENTENCES_A_SCRIPT] for part in one]
        execute("EVAL", WRITE, "2", key, stream, *arguments)
    if changed or not record["value"]:
        there_again(key)


def table_changed(record):
    """Every sentence of this shard is looked at again. That a table was evicted is only noted."""
    from keymiss.worker.functions.evictions import note_evicted, there_again

    if record["event"] == "evicted":
        note_evicted(record["key"], 0)
        return
    there_again(record["key"])
    cursor = "0"
    while True:
        cursor, names = execute("SCAN", cursor, "MATCH", "sentence:*", "COUNT", "1000", "TYPE", "hash")
        if names:
            execute("KM.NOTIFY", "concepts", *names)
        if cursor == "0":
            return


def left_behind(record):
    """What was made of deleted sentences whose event was lost (keymiss.corpus.catchup); what was evicted."""
    from keymiss.worker.functions.evictions import note_evicted_of

    if not isinstance(record["key"], str):
        return
    sentence = "sentence:" + record["key"][len("concepts:") :]
    if record["event"] == "evicted":
        note_evicted_of(record["key"], sentence)
    elif not execute("EXISTS", sentence):
        execute("KM.NOTIFY", "del", sentence)


GB("KeysReader", desc="concepts of sentences").foreach(find_concepts).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup", "concepts"),
    ],
    keyTypes=["hash"],
    mode="async_local",
)
GB("KeysReader", desc="concepts of deleted sentences").foreach(left_behind).register(
    prefix="concepts:",
    eventTypes=["catchup", "evicted"],
    keyTypes=["hash"],
    mode="async_local",
    readValue=False,
)
GB("KeysReader", desc="concept table").foreach(table_changed).register(
    prefix="concept-table:",
    eventTypes=["hset", "del", "restore", "evicted"],
    mode="async_local",
    readValue=False,
)
