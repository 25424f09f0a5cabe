# ruff: noqa: F821 - the names are the gears runtime's
"""Tokenize the sentences that are there already, on every shard; answers with how many articles were done.

The same work as tokenize.py does by registration: for an article that was loaded before that.
"""


def tokenize_article(record):
    import redisAI

    from keymiss.worker.reading import reader_for_tokens

    if not isinstance(record["key"], str):
        return  # not UTF-8
    name = record["key"][len("sentence:") :]
    reader = reader_for_tokens(f"bert-qa{{{hashtag()}}}")
    tensors = {}
    for idx, sentence in record["value"].items():
        if not isinstance(sentence, str):
            continue  # not UTF-8: asking about it says so
        ids = reader.sentence(sentence).ids
        tensor = redisAI.createTensorFromBlob("INT64", [1, len(ids)], ids.tobytes())
        tensors[f"tokenized:bert:qa:{name}:{idx}"] = tensor
    if tensors:
        redisAI.msetTensorsInKeyspace(tensors)


GB("KeysReader").filter(lambda record: isinstance(record["value"], dict)).foreach(
    tokenize_article
).count().run("sentence:*")
