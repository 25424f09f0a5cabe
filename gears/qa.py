"""Answer a GET that missed: bertqa{tag}_<article>:{tag}:<idx>_<question>, and bertspan… (the same as JSON).

One model run makes both keys. Only the first two underscores of the key separate. What cannot be answered
is an error whose text says why. An answer that the shard refuses to keep is given all the same.
"""

from functools import partial
from typing import TYPE_CHECKING

import redisAI

from keymiss import keys
from keymiss.pipeline import answers
from keymiss.pipeline.answers import find_answer
from keymiss.pipeline.model_version import ModelVersion, by_one_version, keep_command
from keymiss.pipeline.records import Record, text_of
from keymiss.pipeline.tokens import is_of, token_tensor
from keymiss.reading.reader import Reader, Sentence
from keymiss.reading.span import Span
from keymiss.worker.functions.model_runs import run_reader, version_of
from keymiss.worker.functions.readers import reader_of
from keymiss.worker.not_kept import keeping

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, GearsConfigGet, execute, hashtag, override_reply


def model_now() -> ModelVersion:
    key = keys.model_key(hashtag())
    found = version_of(key)
    if found is None:
        raise ValueError(f"there is no model {key} on this shard")
    return found


def sentence_of(reader: Reader, asked: keys.AnswerKey) -> Sentence:
    """The tokenized sentence; its tensor is made again if it is of another sentence or tokenizer."""
    stored = execute("HGET", asked.sentence_key, asked.idx)
    if stored is None:
        raise ValueError(f"there is no sentence {asked.sentence_id}")
    sentence = reader.sentence(text_of(stored, f"sentence {asked.sentence_id}"))
    try:
        known = is_of(redisAI.getTensorFromKey(asked.tokenized_key), sentence.ids)
    except Exception:
        known = False
    if not known:
        with keeping("tensor"):
            redisAI.setTensorInKey(asked.tokenized_key, token_tensor(sentence.ids))
    return sentence


def stored_answer(asked: keys.AnswerKey, text: str, model: ModelVersion) -> answers.Answer | None:
    try:  # GETRANGE and not GET: a GET that misses would ask this very function
        return answers.stored_answer(execute("GETRANGE", asked.span_key, "0", "-1"), text, model.sha256)
    except Exception:
        return None


async def answer(record: Record) -> None:
    asked = keys.parse_answer_key(text_of(record["key"], "the question"))
    cached = GearsConfigGet("cache", "yes") != "no"

    async def read(model: ModelVersion) -> tuple[str, answers.Answer | Span]:
        reader = reader_of(model.key)
        sentence = sentence_of(reader, asked)
        known = stored_answer(asked, sentence.text, model) if cached else None
        run = partial(run_reader, model.key)
        return sentence.text, known or await find_answer(reader, sentence, asked.question, run)

    (text, found), model = await by_one_version(model_now, read)
    if isinstance(found, Span):
        found = answers.answer_of(found, text, model.sha256, asked.sentence_id, asked.question)
    as_json = answers.as_json(found)
    if cached and asked.tag == hashtag():  # else, after slots have moved, the four keys are not in one slot
        values = {asked.answer_key: found["answer"], asked.span_key: as_json}
        made_from = (asked.sentence_key, asked.idx, text)
        with keeping("answer"):
            execute(*keep_command(model, values, GearsConfigGet("answer-ttl-s", "0"), made_from))
    reply = as_json if asked.kind == keys.SPAN_PREFIX else found["answer"]
    override_reply(reply.encode())  # bytes: a text that begins with - or + would be an error or a status


for prefix in (keys.ANSWER_PREFIX, keys.SPAN_PREFIX):
    GB("KeysReader", desc=f"answer {prefix}").foreach(answer).register(
        prefix=prefix, eventTypes=["keymiss"], commands=["get"], mode="async_local"
    )
