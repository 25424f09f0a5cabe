"""For gears functions: a sentence as it is stored, with its tokens and states; what is missing is made.

from keymiss.worker.stored_sentences import StoredSentence, read_sentence
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keymiss import keys
from keymiss.pipeline.kept_tensors import Made, read_command, tensor_of, write_command
from keymiss.pipeline.model_version import ModelVersion
from keymiss.pipeline.records import text_of
from keymiss.pipeline.states import States, from_tensor, state_mark, to_tensor
from keymiss.pipeline.tokens import offsets_tensor, sentence_in, token_mark, token_tensor
from keymiss.reading.reader import Reader, Sentence
from keymiss.worker.functions.records import decode
from keymiss.worker.not_kept import KeptTogether


def read_sentence(asked: keys.AnswerKey) -> list[Any]:
    """The command whose reply `StoredSentence.of` takes."""
    article, tag, idx = asked.article, asked.tag, asked.idx
    marks = [keys.tokens_key(article, tag), keys.lower_key(article, tag)]
    tensors = [asked.tokenized_key, keys.offsets_key(article, tag, idx), keys.states_key(article, tag, idx)]
    return read_command(asked.sentence_key, idx, marks, tensors)


@dataclass(frozen=True)
class StoredSentence:
    """A sentence of the shard, of one text, of the tokenizer and of the model that were given. `states` are
    None if there are none of that model."""

    asked: keys.AnswerKey
    sentence: Sentence
    states: States | None

    @classmethod
    def of(
        cls,
        reader: Reader,
        asked: keys.AnswerKey,
        reply: Any,
        lower_sha256: str,
        kept: KeptTogether,
    ) -> StoredSentence:
        """It is tokenized, and to be kept so, only if that was not done before. ValueError if there is none,
        or it is not UTF-8; an error reply is raised. `reply`: raw."""
        if isinstance(reply, Exception):
            raise reply
        stored, token, mark, *tensors = reply
        if stored is None:
            raise ValueError(f"there is no sentence {asked.sentence_id}")
        text = text_of(decode(stored), f"sentence {asked.sentence_id}")
        ids, offsets, states = map(tensor_of, tensors)
        sentence = sentence_in(text, ids, offsets)
        wanted = token_mark(text, reader.tokenizer_digest)
        if sentence is None or decode(token) != wanted:
            sentence = reader.sentence(text)
            kept.add("tensor", _write_tokens(asked, sentence, wanted))
        if states is None or not lower_sha256 or decode(mark) != state_mark(text, lower_sha256):
            return cls(asked, sentence, None)
        return cls(asked, sentence, from_tensor(states))

    def keep_states(self, states: States, lower: ModelVersion, lower_sha256: str, kept: KeptTogether) -> None:
        """Those of the whole sentence are to be kept."""
        asked, text = self.asked, self.sentence.text
        tensors = {keys.states_key(asked.article, asked.tag, asked.idx): to_tensor(states)}
        made = Made(asked.idx, text, state_mark(text, lower_sha256), tensors)
        marks = keys.lower_key(asked.article, asked.tag)
        kept.add("states", write_command(asked.sentence_key, marks, [made], lower))


def _write_tokens(asked: keys.AnswerKey, sentence: Sentence, mark: str) -> list[Any]:
    article, tag, idx = asked.article, asked.tag, asked.idx
    tensors = {
        asked.tokenized_key: token_tensor(sentence.ids),
        keys.offsets_key(article, tag, idx): offsets_tensor(sentence.offsets),
    }
    made = Made(idx, sentence.text, mark, tensors)
    return write_command(asked.sentence_key, keys.tokens_key(article, tag), [made])
