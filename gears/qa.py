# ruff: noqa: F821, B905 - the names are the gears runtime's; RedisGears 1.2 has Python 3.7
"""Answer a GET that missed: bertqa{tag}_<article>:{tag}:<idx>_<question>, and bertspan… (the same as JSON).

One model run makes both keys. Only the first two underscores of the key separate. What cannot be answered
is an error whose text says why. An answer that the shard refuses to keep is given all the same.
"""


def decoded(value, what):
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not UTF-8") from None
    return value


def parts_of(key):
    head, _, rest = key.partition("_")
    sentence, _, question = rest.partition("_")
    tag = head[head.find("{") :]
    name, _, idx = sentence.rpartition(":")
    if head not in ("bertqa" + tag, "bertspan" + tag) or not name.endswith(":" + tag) or not idx:
        raise ValueError("the key is not bertqa{tag}_<article>:{tag}:<idx>_<question>")
    if not question:
        raise ValueError("the key has no question")
    return tag, name, idx, question


def model_info(key):
    flat = execute("KM.MODELINFO", key)
    if not flat:
        raise ValueError(f"there is no model {key} on this shard")
    return dict(zip(flat[::2], flat[1::2]))


def stored_answer(span_key, sentence_digest, model_digest):
    # GETRANGE and not GET: a GET that misses would ask this very function
    import json

    try:
        known = json.loads(execute("GETRANGE", span_key, "0", "-1") or "null")
    except Exception:
        return None
    if not isinstance(known, dict) or not model_digest:
        return None
    same = known.get("sentence_digest") == sentence_digest and known.get("model") == model_digest
    return known if same else None


def sentence_of(reader, name, idx):
    """The tokenized sentence; its tensor is made again if it is of another sentence or tokenizer."""
    import numpy as np
    import redisAI

    from keymiss.worker.not_kept import keeping

    stored = execute("HGET", "sentence:" + name, idx)
    if stored is None:
        raise ValueError(f"there is no sentence {name}:{idx}")
    sentence = reader.sentence(decoded(stored, f"sentence {name}:{idx}"))
    key = f"tokenized:bert:qa:{name}:{idx}"
    try:
        ids = np.frombuffer(redisAI.tensorGetDataAsBlob(redisAI.getTensorFromKey(key)), np.int64)
    except Exception:
        ids = None
    if ids is None or not np.array_equal(ids, sentence.ids):
        tensor = redisAI.createTensorFromBlob("INT64", [1, len(sentence.ids)], sentence.ids.tobytes())
        with keeping("tensor"):
            redisAI.setTensorInKey(key, tensor)
    return sentence


async def logits_of(model_key, inputs):
    """Start and end logits of one run, FLOAT [windows, seq] each."""
    import numpy as np
    import redisAI

    runner = redisAI.createModelRunner(model_key)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        array = getattr(inputs, name)
        tensor = redisAI.createTensorFromBlob("INT64", list(array.shape), array.tobytes())
        redisAI.modelRunnerAddInput(runner, name, tensor)
    redisAI.modelRunnerAddOutput(runner, "start_logits")
    redisAI.modelRunnerAddOutput(runner, "end_logits")
    outputs = await redisAI.modelRunnerRunAsync(runner)
    return [
        np.frombuffer(redisAI.tensorGetDataAsBlob(out), np.float32).reshape(redisAI.tensorGetDims(out))
        for out in outputs
    ]


async def find_answer(reader, model_key, sentence, question):
    import numpy as np

    inputs = reader.inputs(question, sentence)
    runs = [await logits_of(model_key, part) for part in inputs.runs()]
    start, end = (np.concatenate(logits) for logits in zip(*runs))
    return reader.answer(sentence, inputs, start, end)


NO_TOKENIZER = """the model's file has no tokenizer, so it was read with that of the worker's KEYMISS_MODEL. \
If the model is of another vocabulary, start the worker with KEYMISS_MODEL=<the model's folder or name>, \
or store the model by keymiss models load --model <folder or name>"""

# Both keys, if model and sentence are still what the answer was made from. They go when either changes, when
# their time is over (ARGV[6], seconds; 0: never), and before anything else when memory is short.
KEEP = """
local info = redis.call('KM.MODELINFO', KEYS[1])
for i = 1, info and #info or 0, 2 do
    if info[i] == 'version' and info[i + 1] == tonumber(ARGV[1]) then
        if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return 0 end
        local life = ARGV[6] == '0' and {} or {'EX', ARGV[6]}
        redis.call('SET', KEYS[3], ARGV[4], unpack(life))
        redis.call('SET', KEYS[4], ARGV[5], unpack(life))
        redis.call('KM.DERIVE', 2, KEYS[1], KEYS[2], KEYS[3], KEYS[4])
        return 1
    end
end
return 0
"""


async def answer(record):
    import hashlib
    import json

    from keymiss.worker.functions.readers import reader_of
    from keymiss.worker.not_kept import keeping

    key = decoded(record["key"], "the question")
    tag, name, idx, question = parts_of(key)
    keep, ttl_s = GearsConfigGet("cache", "yes") != "no", GearsConfigGet("answer-ttl-s", "0")
    model_key = f"bert-qa{{{hashtag()}}}"
    about = f"{tag}_{name}:{idx}_{question}"
    for _ in range(3):  # a model that is replaced meanwhile answers with another's tokens, or fails on them
        before = model_info(model_key)
        reader = reader_of(model_key)
        sentence = sentence_of(reader, name, idx)
        digest = hashlib.sha256(sentence.text.encode()).hexdigest()
        found = stored_answer("bertspan" + about, digest, before["sha256"]) if keep else None
        if found is not None:
            break
        try:
            best = await find_answer(reader, model_key, sentence, question)
        except Exception as error:
            if model_info(model_key)["version"] != before["version"]:
                continue
            if reader.own_tokenizer:
                raise
            raise ValueError(f"{error} ({NO_TOKENIZER})") from error
        after = model_info(model_key)
        if after["version"] == before["version"]:
            break
    else:
        raise ValueError(f"the model {model_key} was replaced three times while it read the sentence")
    if found is None:
        found = {
            "answer": best.text,
            "score": round(best.score, 6),
            "start": best.start,
            "end": best.end,
            "model": after["sha256"],
            "sentence_digest": digest,
            "sentencekey": f"{name}:{idx}",
            "question": question,
        }
    as_json = json.dumps(found, ensure_ascii=False)
    keys = [model_key, "sentence:" + name, "bertqa" + about, "bertspan" + about]
    if keep and model_key.endswith(tag):  # else, after slots have moved, the four are not in one slot
        made_from = [before["version"], idx, sentence.text]
        with keeping("answer"):
            execute("EVAL", KEEP, "4", *keys, *made_from, found["answer"], as_json, ttl_s)
    reply = as_json if key.startswith("bertspan") else found["answer"]
    override_reply(reply.encode())  # bytes: a text that begins with - or + would be an error or a status


for prefix in ("bertqa", "bertspan"):
    GB("KeysReader", desc=f"answer {prefix}").foreach(answer).register(
        prefix=prefix, eventTypes=["keymiss"], commands=["get"], mode="async_local"
    )
