# ruff: noqa: F821 - the names are the gears runtime's
"""Tokenize the sentences of sentence:<article>:{tag} when the hash is written; take the tensors out with
them.

For each field idx: an INT64 tensor [1, n] at tokenized:bert:qa:<article>:{tag}:<idx>. What it was made from
is noted in tokens:<article>:{tag} afterwards (idx -> SHA-1), so that only what changed is made again; before,
that there will be one (idx -> nothing), so that no tensor is forgotten when the worker dies between the two.
Sentences that the server evicted are noted in evicted:{tag} until they are there again.
"""


def tokenize_article(record):
    import hashlib

    import redisAI

    from keymiss.worker.functions.evictions import note_evicted, there_again
    from keymiss.worker.functions.readers import reader_for_tokens

    if not isinstance(record["key"], str):
        return  # not UTF-8
    name = record["key"][len("sentence:") :]
    noted, tensor = f"tokens:{name}", f"tokenized:bert:qa:{name}:"
    flat = execute("HGETALL", noted)
    known = dict(zip(flat[::2], flat[1::2]))  # noqa: B905 - RedisGears 1.2 has Python 3.7
    if record["event"] == "evicted" and record["value"] is None:
        note_evicted(record["key"], len(known))
    sentences, notes = {}, []
    for idx, sentence in (record["value"] or {}).items():
        if not isinstance(sentence, str) or not isinstance(idx, str):
            continue  # not UTF-8: asking about it says so
        digest = hashlib.sha1(sentence.encode()).hexdigest()[:16]
        if known.pop(idx, None) != digest:
            sentences[idx] = sentence
            notes += [idx, digest]
    if sentences:
        reader = reader_for_tokens(f"bert-qa{{{hashtag()}}}")
        tensors = {}
        for idx, ids in zip(sentences, reader.token_ids(list(sentences.values()))):  # noqa: B905
            tensors[tensor + idx] = redisAI.createTensorFromBlob("INT64", [1, len(ids)], ids.tobytes())
        execute("HSET", noted, *(part for idx in sentences for part in (idx, "")))
        redisAI.msetTensorsInKeyspace(tensors)
        execute("HSET", noted, *notes)
        there_again(record["key"])
    gone = list(known)
    for at in range(0, len(gone), 1000):
        part = gone[at : at + 1000]
        execute("UNLINK", *(tensor + idx for idx in part))
        execute("HDEL", noted, *part)


def left_behind(record):
    """What was made of sentences that were deleted, and the event was lost (see keymiss.corpus.catchup)."""
    if not isinstance(record["key"], str):
        return
    sentence = "sentence:" + record["key"][len("tokens:") :]
    if not execute("EXISTS", sentence):
        execute("KM.NOTIFY", "del", sentence)


GB("KeysReader", desc="tokenize sentences").foreach(tokenize_article).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup"),
    ],
    keyTypes=["hash"],
    mode="async_local",
)
GB("KeysReader", desc="tokens of deleted sentences").foreach(left_behind).register(
    prefix="tokens:", eventTypes=["catchup"], keyTypes=["hash"], mode="async_local", readValue=False
)
