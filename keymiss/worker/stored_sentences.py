"""For gears functions: a sentence as it is stored, with its tokens and states; what is missing is made.

from keymiss.worker.stored_sentences import StoredSentence
"""

from __future__ import annotations

from dataclasses import dataclass

from keymiss import keys
from keymiss.pipeline.kept_tensors import Made, read_command, tensor_of, write_command
from keymiss.pipeline.model_version import ModelVersion
from keymiss.pipeline.records import text_of
from keymiss.pipeline.states import States, from_tensor, state_mark, to_tensor
from keymiss.pipeline.tokens import offsets_tensor, sentence_in, token_mark, token_tensor
from keymiss.reading.reader import Reader, Sentence
from keymiss.worker.functions.gears_api import execute, hashtag
from keymiss.worker.not_kept import keeping


@dataclass(frozen=True)
class StoredSentence:
    """A sentence of the shard, read at once: of one text, of the tokenizer and of the model that were given.
    `states` are None if there are none of that model."""

    asked: keys.AnswerKey
    sentence: Sentence
    states: States | None

    @classmethod
    def read(cls, reader: Reader, asked: keys.AnswerKey, lower_sha256: str = "") -> StoredSentence:
        """It is tokenized, and kept so, only if that was not done before. ValueError if there is none."""
        article, tag, idx = asked.article, asked.tag, asked.idx
        marks = [keys.tokens_key(article, tag)]
        tensors = [asked.tokenized_key, keys.offsets_key(article, tag, idx)]
        if lower_sha256:
            marks.append(keys.lower_key(article, tag))
            tensors.append(keys.states_key(article, tag, idx))
        stored, token, *more = execute(*read_command(asked.sentence_key, idx, marks, tensors))
        if stored is None:
            raise ValueError(f"there is no sentence {asked.sentence_id}")
        text, mark = text_of(stored, f"sentence {asked.sentence_id}"), None
        if lower_sha256:
            mark, *more = more
        ids, offsets, *states = map(tensor_of, more)
        sentence = sentence_in(text, ids, offsets)
        wanted = token_mark(text, reader.tokenizer_digest)
        if sentence is None or token != wanted:
            sentence = reader.sentence(text)
            made = dict(
                zip(tensors, (token_tensor(sentence.ids), offsets_tensor(sentence.offsets)), strict=False)
            )
            with keeping("tensor"):
                execute(*write_command(asked.sentence_key, marks[0], [Made(idx, text, wanted, made)]))
        known = states[0] if states and mark == state_mark(text, lower_sha256) else None
        return cls(asked, sentence, None if known is None else from_tensor(known))

    def keep_states(self, states: States, lower: ModelVersion, lower_sha256: str) -> None:
        """Keeps the states of the whole sentence."""
        asked, text = self.asked, self.sentence.text
        if asked.tag != hashtag():  # slots have moved: the model is in another one
            return
        tensors = {keys.states_key(asked.article, asked.tag, asked.idx): to_tensor(states)}
        made = Made(asked.idx, text, state_mark(text, lower_sha256), tensors)
        marks = keys.lower_key(asked.article, asked.tag)
        with keeping("states"):
            execute(*write_command(asked.sentence_key, marks, [made], lower))
