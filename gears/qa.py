"""Answer a GET that missed: bertqa{tag}_<article>:{tag}:<idx>_<question>, and bertspan… (the same as JSON).

One model run makes both keys; of a split reader only the upper half runs, where the states are there. Only
the first two underscores of the key separate. What cannot be answered is an error whose text says why. An
answer that the shard refuses to keep is given all the same.
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from keymiss import keys
from keymiss.pipeline import answers
from keymiss.pipeline.answers import find_answer
from keymiss.pipeline.model_version import ModelVersion, by_one_version, keep_command
from keymiss.pipeline.records import Record, text_of
from keymiss.reading.span import Span
from keymiss.worker.functions.model_runs import run_reader, version_of
from keymiss.worker.functions.readers import half_at, reader_of
from keymiss.worker.not_kept import keeping
from keymiss.worker.split_runs import read_split
from keymiss.worker.stored_sentences import StoredSentence

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, GearsConfigGet, execute, hashtag, override_reply


def model_now() -> ModelVersion:
    key = keys.model_key(hashtag())
    found = version_of(key)
    if found is None:
        raise ValueError(f"there is no model {key} on this shard")
    return replace(found, lower=version_of(keys.lower_model_key(hashtag())))


def stored_answer(asked: keys.AnswerKey, text: str, model: ModelVersion) -> answers.Answer | None:
    try:  # GETRANGE and not GET: a GET that misses would ask this very function
        return answers.stored_answer(execute("GETRANGE", asked.span_key, "0", "-1"), text, model.sha256)
    except Exception:
        return None


async def answer(record: Record) -> None:
    asked = keys.parse_answer_key(text_of(record["key"], "the question"))
    cached = GearsConfigGet("cache", "yes") != "no"

    async def read(model: ModelVersion) -> tuple[str, answers.Answer | Span]:
        reader, half = reader_of(model.key), half_at(model.key)
        run: answers.Run = partial(run_reader, model.key)
        if half:
            stored, run = read_split(reader, asked, model, half)
        else:
            stored = StoredSentence.read(reader, asked)
        sentence = stored.sentence
        known = stored_answer(asked, sentence.text, model) if cached else None
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
