"""Answer GETs that missed: bertqa{tag}_<article>:{tag}:<idx>_<question>, and bertspan… (the same as JSON).

Misses are taken many at a time: all they need is read in one round trip, and what has been answered is kept
in one more while the model goes on. One model run makes both keys; of a split reader only the upper half
runs, where the states are there. Only the first two underscores of the key separate. What cannot be answered
is an error whose text says why. An answer that the shard refuses to keep is given all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keymiss import keys
from keymiss.pipeline import answers
from keymiss.pipeline.answers import Answer, find_answer
from keymiss.pipeline.model_version import by_one_version, keep_command
from keymiss.pipeline.records import Record, text_of
from keymiss.worker.functions.event_loops import as_they_end
from keymiss.worker.functions.gears_api import execute_together
from keymiss.worker.model_infos import ModelInfos
from keymiss.worker.not_kept import KeptTogether
from keymiss.worker.reader_in_use import READERS, ReaderInUse, known_question_states, version_in
from keymiss.worker.stored_sentences import StoredSentence, read_sentence

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, GearsConfigGet, fail_reply

AT_ONCE = 64
HELD_S = 0.02  # an answer waits so long for others, so that they are kept together


@dataclass(frozen=True)
class Asked:
    """A miss, and what its key says."""

    record: Record
    key: keys.AnswerKey


@dataclass(frozen=True)
class Found:
    """The answer of one sentence, and its text."""

    answer: Answer
    text: str

    def reply(self, kind: str) -> bytes:
        """Bytes: a text that begins with - or + would be an error or a status."""
        return (answers.as_json(self.answer) if kind == keys.SPAN_PREFIX else self.answer["answer"]).encode()


async def answer(records: list[Record]) -> None:
    left = []
    for record in records:
        try:
            left.append(Asked(record, keys.parse_answer_key(text_of(record["key"], "the question"))))
        except ValueError as error:
            fail_reply(error, record)
    for asked in await by_one_version(left, answer_by_one_reader):
        fail_reply(ValueError("the model was replaced three times while it read the sentence"), asked.record)


async def answer_by_one_reader(asked: Sequence[Asked]) -> Sequence[Asked]:
    """Answers all but those that it gives back: the reader was replaced before they were answered."""
    models, known_states = ModelInfos(READERS), known_question_states({one.key.question for one in asked})
    sentences = [read_sentence(one.key) for one in asked]
    spans = [["GETRANGE", one.key.span_key, "0", "-1"] for one in asked]  # a GET would ask this very function
    asking = [*models.commands, *known_states.values(), *sentences, *spans]
    replies = iter(execute_together(asking, raw=True))
    infos = models.of(replies)
    states = {key: next(replies) for key in known_states}
    try:
        reader = ReaderInUse.of(infos, states)
    except Exception:
        if version_in(models.now()) == version_in(infos):
            raise
        return asked
    stored = [next(replies) for _ in asked]
    kept = KeptTogether()
    parts = sorted(zip(asked, stored, replies, strict=True), key=lambda part: -length_of(part[1]))
    finding = {find(reader, one, sentence, span, kept): one for one, sentence, span in parts}
    again = []
    async for ended in as_they_end(finding, HELD_S):
        for one, found in ended:
            if isinstance(found, Found):
                keep(reader, one.key, found, kept)
        values = [
            (found.reply(one.key.kind) if isinstance(found, Found) else found, one.record)
            for one, found in ended
        ]
        taken = kept.send_with_replies(reader.reports(), values, reader.version)
        again += [one for (one, _), counts in zip(ended, taken, strict=True) if not counts]
    return again


def length_of(sentence: Any) -> int:
    """The longest is read first: at the end no core waits long for another."""
    return len(sentence[0] or "") if isinstance(sentence, list) else 0


async def find(reader: ReaderInUse, asked: Asked, sentence: Any, span: Any, kept: KeptTogether) -> Found:
    key = asked.key
    stored = StoredSentence.of(reader.reader, key, sentence, reader.lower_sha256, kept)
    text = stored.sentence.text
    known = None
    if GearsConfigGet("cache", "yes") != "no" and not isinstance(span, Exception):
        known = answers.stored_answer(span, text, reader.sha256)
    if known:
        return Found(known, text)
    found = await find_answer(reader.reader, stored.sentence, key.question, reader.run_over(stored, kept))
    return Found(answers.answer_of(found, text, reader.sha256, key.sentence_id, key.question), text)


def keep(reader: ReaderInUse, key: keys.AnswerKey, found: Found, kept: KeptTogether) -> None:
    if GearsConfigGet("cache", "yes") == "no":
        return
    values = {key.answer_key: found.answer["answer"], key.span_key: answers.as_json(found.answer)}
    made_from = (key.sentence_key, key.idx, found.text)
    kept.add("answer", keep_command(reader.version, values, GearsConfigGet("answer-ttl-s", "0"), made_from))


for prefix in (keys.ANSWER_PREFIX, keys.SPAN_PREFIX):
    GB("KeysReader", desc=f"answer {prefix}").foreach(answer).register(
        prefix=prefix,
        eventTypes=["keymiss"],
        commands=["get"],
        mode="async_local",
        missBatch=AT_ONCE,
        convertToStr=False,
        collect=False,
    )
