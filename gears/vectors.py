# ruff: noqa: F821, B905 - the names are the gears runtime's; RedisGears 1.2 has Python 3.7
"""Make vectors: of the sentences of sentence:<article>:{tag} when the hash is written, and of a question on a
miss.

vectors:<article>:{tag} has the sentences' (idx -> digest of the sentence and its vector,
keymiss.reading.stored_vector), so only what changed is encoded again. GET bertvec{tag}_<question> gives the
question's. The encoder is the model at bert-encoder{tag}; without one there are no vectors, and with another
one all are made anew.
"""

RUNS_AT_ONCE = 2  # of one article: others want the model's threads too
FIELDS_AT_ONCE = 500


async def vectors_of(encoder, model_key, texts):
    """FLOAT [texts, 384]"""
    import asyncio

    import numpy as np
    import redisAI

    from keymiss.reading.encoder import in_order

    async def run(batch):
        runner = redisAI.createModelRunner(model_key)
        for name in ("input_ids", "attention_mask"):
            array = getattr(batch, name)
            tensor = redisAI.createTensorFromBlob("INT64", list(array.shape), array.tobytes())
            redisAI.modelRunnerAddInput(runner, name, tensor)
        redisAI.modelRunnerAddOutput(runner, "vectors")
        (out,) = await redisAI.modelRunnerRunAsync(runner)
        blob = redisAI.tensorGetDataAsBlob(out)
        return batch, np.frombuffer(blob, np.float32).reshape(redisAI.tensorGetDims(out))

    batches, done = list(encoder.batches(texts)), []
    for at in range(0, len(batches), RUNS_AT_ONCE):
        done += await asyncio.gather(*(run(batch) for batch in batches[at : at + RUNS_AT_ONCE]))
    return in_order(done, len(texts))


def version_of(model_key):
    flat = execute("KM.MODELINFO", model_key) or []
    return dict(zip(flat[::2], flat[1::2])).get("version")


def raw(value):
    return value.encode() if isinstance(value, str) else value


async def encode_article(record):
    from keymiss.reading.stored_vector import DIGEST_BYTES, text_digest, to_field
    from keymiss.worker.functions.evictions import there_again
    from keymiss.worker.functions.readers import encoder_of

    if not isinstance(record["key"], str):
        return  # not UTF-8
    model_key = f"bert-encoder{{{hashtag()}}}"
    version, encoder = version_of(model_key), encoder_of(model_key)
    key = "vectors:" + record["key"][len("sentence:") :]
    flat = execute("HGETALL", key)
    known = {idx: raw(field)[:DIGEST_BYTES] for idx, field in zip(flat[::2], flat[1::2])}
    wanted = {}
    for idx, sentence in (record["value"] or {}).items():
        if isinstance(sentence, str) and known.pop(idx, None) != text_digest(sentence):
            wanted[idx] = sentence
    if encoder is None:
        wanted = {}  # what is gone goes all the same
    ids, texts = list(wanted), list(wanted.values())
    for at in range(0, len(ids), FIELDS_AT_ONCE):
        part = texts[at : at + FIELDS_AT_ONCE]
        vectors = await vectors_of(encoder, model_key, part)
        fields = []
        for idx, text, vector in zip(ids[at : at + FIELDS_AT_ONCE], part, vectors):
            fields += [idx, to_field(text, vector)]
        if version_of(model_key) != version:  # the encoder was replaced: some of these may be of the old one
            execute("KM.NOTIFY", "vectors", record["key"])
            return
        execute("HSET", key, *fields)
    if ids or not record["value"]:
        there_again(key)
    gone = list(known)
    for at in range(0, len(gone), FIELDS_AT_ONCE):
        execute("HDEL", key, *gone[at : at + FIELDS_AT_ONCE])


async def encode_question(record):
    from keymiss.reading.stored_vector import question_to_bytes
    from keymiss.worker.functions.readers import encoder_of
    from keymiss.worker.not_kept import keeping

    key = record["key"]
    if not isinstance(key, str):
        raise ValueError("the question is not UTF-8")
    question = key.partition("_")[2]
    if not question.strip():
        raise ValueError("the key has no question: it is bertvec{tag}_<question>")
    model_key = f"bert-encoder{{{hashtag()}}}"
    version, encoder = version_of(model_key), encoder_of(model_key)
    if encoder is None:
        raise ValueError(f"there is no model {model_key} here: keymiss models load-encoder")
    (vector,) = await vectors_of(encoder, model_key, [question])
    value = question_to_bytes(vector)
    tag = key[len("bertvec") : key.find("_")]
    if GearsConfigGet("cache", "yes") != "no" and model_key.endswith(tag):
        ttl_s = GearsConfigGet("answer-ttl-s", "0")
        with keeping("vector"):
            execute("EVAL", KEEP, "2", model_key, key, version, value, ttl_s)
    override_reply(value)


# The question's vector, if the encoder is still the one that made it; for ARGV[3] seconds, 0: for good.
KEEP = """
local info = redis.call('KM.MODELINFO', KEYS[1])
for i = 1, info and #info or 0, 2 do
    if info[i] == 'version' and info[i + 1] == tonumber(ARGV[1]) then
        local life = ARGV[3] == '0' and {} or {'EX', ARGV[3]}
        redis.call('SET', KEYS[2], ARGV[2], unpack(life))
        redis.call('KM.DERIVE', 1, KEYS[1], KEYS[2])
        return 1
    end
end
return 0
"""


def encoder_changed(record):
    """Every vector of this shard is of the old encoder."""
    cursor = "0"
    while True:
        cursor, names = execute("SCAN", cursor, "MATCH", "vectors:*", "COUNT", "1000", "TYPE", "hash")
        for name in names:
            execute("UNLINK", name)
        if cursor == "0":
            break
    while True:
        cursor, names = execute("SCAN", cursor, "MATCH", "sentence:*", "COUNT", "1000", "TYPE", "hash")
        if names:
            execute("KM.NOTIFY", "vectors", *names)
        if cursor == "0":
            return


def left_behind(record):
    """What was made of deleted sentences whose event was lost (keymiss.corpus.catchup); what was evicted."""
    from keymiss.worker.functions.evictions import note_evicted_of

    if not isinstance(record["key"], str):
        return
    sentence = "sentence:" + record["key"][len("vectors:") :]
    if record["event"] == "evicted":
        note_evicted_of(record["key"], sentence)
    elif not execute("EXISTS", sentence):
        execute("KM.NOTIFY", "del", sentence)


GB("KeysReader", desc="vectors of sentences").foreach(encode_article).register(
    prefix="sentence:",
    eventTypes=[
        *("hset", "hdel", "del", "expired", "evicted"),
        *("rename_from", "rename_to", "restore", "copy_to", "catchup", "vectors"),
    ],
    keyTypes=["hash"],
    mode="async_local",
)
GB("KeysReader", desc="vectors of deleted sentences").foreach(left_behind).register(
    prefix="vectors:",
    eventTypes=["catchup", "evicted"],
    keyTypes=["hash"],
    mode="async_local",
    readValue=False,
)
GB("KeysReader", desc="encoder").foreach(encoder_changed).register(
    prefix="bert-encoder", eventTypes=["modelstore"], mode="async_local", readValue=False
)
GB("KeysReader", desc="vector of a question").foreach(encode_question).register(
    prefix="bertvec", eventTypes=["keymiss"], commands=["get"], mode="async_local"
)
