# ruff: noqa: F821 - the names are the gears runtime's
"""Tokenize every sentence of sentence:<article>:{tag}, when the hash is written.

For each field idx: an INT64 tensor [1, n] at tokenized:bert:qa:<article>:{tag}:<idx>.
"""


def tokenize_article(record):
    import redisAI

    from keymiss.worker.reading import reader_for_tokens

    if not isinstance(record["key"], str):
        return  # not UTF-8
    name = record["key"][len("sentence:") :]
    sentences = record["value"]
    if not isinstance(sentences, dict):
        return
    reader = reader_for_tokens(f"bert-qa{{{hashtag()}}}")
    tensors = {}
    for idx, sentence in sentences.items():
        if not isinstance(sentence, str):
            continue  # not UTF-8: asking about it says so
        ids = reader.sentence(sentence).ids
        tensor = redisAI.createTensorFromBlob("INT64", [1, len(ids)], ids.tobytes())
        tensors[f"tokenized:bert:qa:{name}:{idx}"] = tensor
    if tensors:
        redisAI.msetTensorsInKeyspace(tensors)


GB("KeysReader", desc="tokenize sentences").foreach(tokenize_article).register(
    prefix="sentence:", eventTypes=["hset"], keyTypes=["hash"], mode="async_local"
)
