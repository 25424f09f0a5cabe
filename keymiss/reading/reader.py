"""Reading: one question and one text to the model's inputs, and the model's logits to the answer.

The one place for it: the worker's functions, the evaluation and the tests all read with a `Reader`. It has
what belongs to one model: its tokenizer and the calibration of its score. Both travel in the model's file
(`About`), so that a shard's model is never used with another's tokenizer.

The layout is BERT's: ``[CLS] question [SEP] text [SEP]``. A text is tokenized once, without ``[CLS]`` and
with ``[SEP]`` at its end, and kept so in its tensor. Needs the `tokenizers` library and numpy only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Encoding, Tokenizer

from keymiss.reading import tokenizers
from keymiss.reading.span import Span, best_span

MAX_SEQUENCE_TOKENS = 512  # BERT's position embeddings
MAX_QUESTION_TOKENS = 64  # what HF's SQuAD recipe keeps of a question
MAX_QUESTION_CHARS = 2048  # 64 tokens are far fewer; longer is a mistake or an attack
WINDOW_OVERLAP_TOKENS = 128  # HF's SQuAD recipe; more than the longest answer (30)
MAX_WINDOWS = 64  # about 20,000 tokens: a whole article
TOKENIZER_DIGITS = 8  # of a tokenizer's SHA-256, to tell it from others
WINDOWS_A_RUN = 8  # of one long text: 8 x 512 tokens take some hundred MB while they run

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """The probability that a text answers: 1 / (1 + exp(-(scale * margin + relevance * r + shift))), where
    the margin is the best span's logits (start + end) minus those of "no answer" ([CLS]), and r the relevance
    logit of a model that has one."""

    scale: float
    shift: float
    relevance: float = 0.0

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.scale, self.shift, self.relevance)))
        if not finite or self.scale <= 0 or self.relevance < 0:
            raise tokenizers.TextError(
                f"not a calibration: scale {self.scale}, shift {self.shift}, relevance {self.relevance}"
            )

    def probability(self, margin: float, relevance: float = 0.0) -> float:
        """In [0, 1]."""
        x = self.scale * margin + self.relevance * relevance + self.shift
        return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@dataclass(frozen=True)
class Half:
    """Which half of a split reader a file is: `name` is LOWER or UPPER. Two halves with the same `pair` (a
    digest of what they were made from) are of one reader.

    The lower one has `split` of the `layers`, the upper one the others; between them are states of `width`. A
    question is at positions 0, 1, ... with token type 0, a text at `text_position` and on with type 1.
    """

    name: str
    pair: str
    layers: int
    split: int
    width: int
    text_position: int


LOWER, UPPER = "lower", "upper"


@dataclass(frozen=True)
class About:
    """What travels in a model's file: `tokenizer` (the text of a tokenizer.json), and how it was made.
    The prefixes: what an encoder is given before a question and before a sentence."""

    model: str
    precision: str
    tokenizer: str
    vocab_size: int
    max_tokens: int
    calibration: Calibration | None = None
    half: Half | None = None
    question_prefix: str = ""
    sentence_prefix: str = ""

    def to_json(self) -> str:
        """One line."""
        fields = {**asdict(self), "format": 1}
        if self.half is None:
            del fields["half"]
        for name in ("question_prefix", "sentence_prefix"):
            if not fields[name]:
                del fields[name]
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_json(cls, given: str) -> About:
        """TextError if it is none."""
        try:
            fields = json.loads(given)
            if fields.pop("format") != 1:
                raise tokenizers.TextError(
                    "what the model's file says of itself has a format unknown to this version"
                )
            calibration, half = fields.pop("calibration"), fields.pop("half", None)
            about = cls(
                **fields,
                calibration=Calibration(**calibration) if calibration else None,
                half=Half(**half) if half else None,
            )
            if not 8 <= about.max_tokens <= 1 << 16:
                raise tokenizers.TextError(f"the model's file says it takes {about.max_tokens} tokens")
            if not isinstance(about.question_prefix, str) or not isinstance(about.sentence_prefix, str):
                raise tokenizers.TextError("the model's file has a prefix that is no text")
            return about
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, tokenizers.TextError):
                raise
            said = f"what the model's file says of itself cannot be read: {error}"
            raise tokenizers.TextError(said) from None


@dataclass(frozen=True)
class Sentence:
    """A tokenized text: `ids` [n+1] with [SEP] last; `offsets` [n, 2] characters of each token's word.

    An offset covers the whole word a token is part of, so that an answer never begins or ends inside one.
    """

    text: str
    ids: Ids
    offsets: Ids


@dataclass(frozen=True)
class Inputs:
    """A batch for the model, one row a window: ids, mask and types [windows, seq], all of one length.

    `offsets` [windows, seq, 2]: characters in the text, -1 for tokens that are not of it.
    """

    input_ids: Ids
    attention_mask: Ids
    token_type_ids: Ids
    offsets: Ids

    @classmethod
    def together(cls, parts: Sequence[Inputs]) -> Inputs:
        """Their rows; the shorter ones are padded, and masked there."""
        return cls(
            _padded([part.input_ids for part in parts]),
            _padded([part.attention_mask for part in parts]),
            _padded([part.token_type_ids for part in parts]),
            _padded([part.offsets for part in parts], -1),
        )

    def runs(self) -> Iterator[Inputs]:
        """The same windows, at most WINDOWS_A_RUN at a time."""
        for at in range(0, len(self.input_ids), WINDOWS_A_RUN):
            part = slice(at, at + WINDOWS_A_RUN)
            yield Inputs(
                self.input_ids[part], self.attention_mask[part], self.token_type_ids[part], self.offsets[part]
            )


class Reader:
    """Tokenizes, and finds answers, as one model needs it. Can be used by several threads at once.

    `own_tokenizer`: it came with the model; False when it was taken from elsewhere and may not fit.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        calibration: Calibration | None = None,
        max_tokens: int = MAX_SEQUENCE_TOKENS,
        own_tokenizer: bool = True,
    ) -> None:
        self.calibration, self.own_tokenizer = calibration, own_tokenizer
        self.tokenizer_digest = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:TOKENIZER_DIGITS]
        self._tokenizer, self._max_tokens = tokenizer, min(max_tokens, MAX_SEQUENCE_TOKENS)
        self._cls, self._sep = (np.array([tokenizer.token_to_id(it)], np.int64) for it in ("[CLS]", "[SEP]"))
        self.sentence = lru_cache(maxsize=4096)(self._sentence)
        self.question_ids = lru_cache(maxsize=256)(self._question_ids)

    @classmethod
    def of(cls, about: About) -> Reader:
        """The reader for a model's file. TextError if its tokenizer is none."""
        tokenizer = tokenizers.tokenizer_from(about.tokenizer, about.model)
        return cls(tokenizer, about.calibration, about.max_tokens)

    def _sentence(self, sentence: str) -> Sentence:
        """Tokenize one text of any length; its arrays are read-only. (`sentence` keeps the last ones.)"""
        (made,) = self.sentences([sentence])
        return made

    def sentences(self, texts: Sequence[str]) -> list[Sentence]:
        """What `sentence` gives, of many texts at once."""
        pairs = zip(texts, self._encoded(texts), strict=True)
        return [Sentence(text, self._ids(one), _read_only(_of_words(one))) for text, one in pairs]

    def sentence_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Of each what its `Sentence` has as `ids`."""
        return [self._ids(encoding) for encoding in self._encoded(texts)]

    def _encoded(self, texts: Sequence[str]) -> list[Encoding]:
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def _ids(self, encoding: Encoding) -> Ids:
        return _read_only(np.array([*encoding.ids, *self._sep], np.int64))

    def _question_ids(self, question: str) -> Ids:
        """Token ids, at most MAX_QUESTION_TOKENS, read-only; TextError if it has none or is far too long.
        (`question_ids` keeps the last ones.)"""
        if len(question) > MAX_QUESTION_CHARS:
            raise tokenizers.TextError(
                f"the question has {len(question)} characters, at most {MAX_QUESTION_CHARS} are taken"
            )
        ids = self._tokenizer.encode(question, add_special_tokens=False).ids[:MAX_QUESTION_TOKENS]
        if not ids:
            raise tokenizers.TextError("the question has no words")
        return _read_only(np.array(ids, np.int64))

    def inputs(self, question: str, sentence: Sentence) -> Inputs:
        """The model's inputs for one question and one text.

        A text too long for one run becomes several windows of equal length that overlap, so no padding
        is needed. TextError if the text has no words or more than MAX_WINDOWS windows.
        """
        head: Ids = np.concatenate((self._cls, self.question_ids(question), self._sep))
        body, n = sentence.ids[:-1], len(sentence.ids) - 1
        if n == 0:
            raise tokenizers.TextError("the sentence has no words")
        width = min(n, self._max_tokens - len(head) - 1)
        if width < 1:
            raise tokenizers.TextError(f"a question of {len(head)} tokens leaves no room for the sentence")
        starts = window_starts(n, width)
        if len(starts) > MAX_WINDOWS:
            raise tokenizers.TextError(f"the sentence has {n} tokens, too many for {MAX_WINDOWS} windows")
        shape, text = (len(starts), len(head) + width + 1), slice(len(head), -1)
        input_ids, offsets = np.empty(shape, np.int64), np.full((*shape, 2), -1, np.int64)
        input_ids[:, : len(head)], input_ids[:, -1] = head, self._sep[0]
        for row, start in enumerate(starts):
            input_ids[row, text] = body[start : start + width]
            offsets[row, text] = sentence.offsets[start : start + width]
        types = np.zeros(shape, np.int64)
        types[:, len(head) :] = 1
        return Inputs(input_ids, np.ones(shape, np.int64), types, offsets)

    def answer(
        self,
        sentence: Sentence,
        inputs: Inputs,
        start_logits: ArrayLike,
        end_logits: ArrayLike,
        relevance: ArrayLike | None = None,
    ) -> Span:
        """The best answer of all windows; start_logits, end_logits [windows, seq] and relevance [windows], if
        the model has it, as the model gave them.

        Its score is the calibrated probability that the text answers the question. For a model without a
        calibration it is the span's share among all spans and "no answer": good to compare spans, no more.
        ValueError if shapes do not fit, a logit is not finite, or a relevance is needed and not given.
        """
        starts, ends = np.asarray(start_logits), np.asarray(end_logits)
        if starts.shape != inputs.input_ids.shape or ends.shape != inputs.input_ids.shape:
            raise ValueError(f"logits {starts.shape} and {ends.shape} for inputs {inputs.input_ids.shape}")
        rows = zip(starts, ends, inputs.offsets, strict=True)
        spans = [best_span(start, end, offsets, sentence.text) for start, end, offsets in rows]
        if self.calibration is None:
            return max(spans, key=lambda span: span.logit)
        if relevance is None and self.calibration.relevance:
            raise ValueError("the score of this model is made of its relevance too, which is not given")
        told = np.zeros(len(spans)) if relevance is None else np.asarray(relevance, np.float64)
        if told.shape != (len(spans),) or not np.isfinite(told).all():
            raise ValueError(f"relevance {told.tolist()} of {len(spans)} windows")
        scores = [
            self.calibration.probability(span.margin, r) for span, r in zip(spans, told.tolist(), strict=True)
        ]
        scored = [replace(span, score=score) for span, score in zip(spans, scores, strict=True)]
        return max(scored, key=lambda span: (span.score, span.margin))


def _padded(arrays: Sequence[Ids], padding: int = 0) -> Ids:
    """Their rows, as long as the longest."""
    width = max(array.shape[1] for array in arrays)
    rows = np.full((sum(map(len, arrays)), width, *arrays[0].shape[2:]), padding, np.int64)
    at = 0
    for array in arrays:
        rows[at : at + len(array), : array.shape[1]] = array
        at += len(array)
    return rows


def _read_only(array: Ids) -> Ids:
    array.flags.writeable = False
    return array


def _of_words(encoding: Encoding) -> Ids:
    """[n, 2]: characters of the word each token is part of; its own, if it is of none."""
    words, offsets = encoding.word_ids, encoding.offsets
    of: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(words, offsets, strict=True):
        if word is not None:
            of[word] = (of[word][0] if word in of else start, end)
    found = [own if word is None else of[word] for word, own in zip(words, offsets, strict=True)]
    return np.array(found, np.int64).reshape(-1, 2)


def window_starts(n: int, width: int) -> list[int]:
    """First tokens of the windows of `width` that cover n tokens; the last one is moved back to end at n."""
    step = max(1, width - min(WINDOW_OVERLAP_TOKENS, width // 2))
    return [*range(0, n - width, step), n - width]


@lru_cache(maxsize=1)
def default_reader() -> Reader:
    """For models whose file has no `About`: with the tokenizer of KEYMISS_MODEL, without a calibration."""
    return Reader(tokenizers.load_tokenizer(tokenizers.tokenizer_path()), own_tokenizer=False)
