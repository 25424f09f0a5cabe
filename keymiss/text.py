"""From words to what the QA model reads: token ids, windows, and where each token came from.

The layout is BERT's: ``[CLS] question [SEP] sentence [SEP]``. A sentence is tokenized once, without
``[CLS]`` and with ``[SEP]`` at its end, and kept so in its tensor. Uses the `tokenizers` library only.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
MAX_SEQUENCE_TOKENS = 512  # BERT's position embeddings
MAX_QUESTION_TOKENS = 64  # what HF's SQuAD recipe keeps of a question
MAX_QUESTION_CHARS = 2048  # 64 tokens are far fewer; longer is a mistake or an attack
WINDOW_OVERLAP_TOKENS = 128  # HF's SQuAD recipe; more than the longest answer (30)
MAX_WINDOWS = 16  # one batch; about 5,000 tokens, no sentence is longer

Ids = NDArray[np.int64]


class TextError(ValueError):
    """A question or sentence that cannot be put to the model; the text says why."""


@dataclass(frozen=True)
class Sentence:
    """A tokenized sentence: `ids` [n+1] with [SEP] last; `offsets` [n, 2] characters of each token's word.

    An offset covers the whole word a token is part of, so that an answer never begins or ends inside one.
    """

    text: str
    ids: Ids
    offsets: Ids


@dataclass(frozen=True)
class Inputs:
    """A batch for the model, one row a window: ids, mask and types [windows, seq], all of one length.

    `offsets` [windows, seq, 2]: characters in the sentence, -1 for tokens that are not of the sentence.
    """

    input_ids: Ids
    attention_mask: Ids
    token_type_ids: Ids
    offsets: Ids


def model_slug(model: str) -> str:
    """The file name stem under var/models for a model's folder or hub name."""
    name = Path(model).name if Path(model).is_dir() else model
    return re.sub(r"[^A-Za-z0-9._-]+", "--", name).strip(".-") or "model"


def models_folder() -> Path:
    """Where exported models are kept."""
    return Path(os.environ.get("KEYMISS_VAR") or ROOT / "var") / "models"


def model_folder(model: str) -> Path | None:
    """The local folder that `model` names (as given, or from the project's root), or None for a hub name."""
    return next((path for path in (Path(model), ROOT / model) if path.is_dir()), None)


def tokenizer_path() -> Path:
    """The tokenizer of the model in use (KEYMISS_MODEL); FileNotFoundError says how to get a missing one."""
    model = os.environ.get("KEYMISS_MODEL") or "models/reader"
    folder = model_folder(model)
    exported = models_folder() / f"{model_slug(str(folder or model))}.tokenizer.json"
    places = [folder / "tokenizer.json", exported] if folder else [exported]
    for path in places:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no tokenizer for {model}: run python -m models.export --model {model}")


@lru_cache(maxsize=4)
def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that neither cuts nor pads, and takes a "[SEP]" in a text for mere text."""
    loaded = Tokenizer.from_file(str(path))
    loaded.encode_special_tokens = True
    loaded.no_truncation()
    loaded.no_padding()
    for token in ("[CLS]", "[SEP]"):
        if loaded.token_to_id(token) is None:
            raise TextError(f"{path} is not a BERT tokenizer: it has no {token}")
    return loaded


def tokenizer() -> Tokenizer:
    """The tokenizer of the model in use, loaded once a process."""
    return load_tokenizer(tokenizer_path())


@lru_cache(maxsize=4096)
def encode_sentence(text: str) -> Sentence:
    """Tokenize one sentence of any length; its arrays are read-only."""
    tok = tokenizer()
    encoding = tok.encode(text, add_special_tokens=False)
    words = [encoding.word_to_chars(word) if word is not None else None for word in encoding.word_ids]
    offsets = np.array([word or token for word, token in zip(words, encoding.offsets, strict=True)], np.int64)
    ids = np.array([*encoding.ids, tok.token_to_id("[SEP]")], np.int64)
    offsets = offsets.reshape(-1, 2)
    ids.flags.writeable = offsets.flags.writeable = False
    return Sentence(text, ids, offsets)


def sentence_ids(text: str) -> Ids:
    """What a sentence's tensor holds: its token ids [n+1], [SEP] at the end."""
    return encode_sentence(text).ids


def question_ids(question: str) -> Ids:
    """Token ids of a question, at most MAX_QUESTION_TOKENS; TextError if it has none or is far too long."""
    if len(question) > MAX_QUESTION_CHARS:
        raise TextError(
            f"the question has {len(question)} characters, at most {MAX_QUESTION_CHARS} are taken"
        )
    ids = tokenizer().encode(question, add_special_tokens=False).ids[:MAX_QUESTION_TOKENS]
    if not ids:
        raise TextError("the question has no words")
    return np.array(ids, np.int64)


def build_inputs(question: str, sentence: Sentence) -> Inputs:
    """The model's inputs for one question and one sentence.

    A sentence too long for one run becomes several windows of equal length that overlap, so no padding
    is needed. TextError if the sentence has no words or more than MAX_WINDOWS windows.
    """
    tok = tokenizer()
    cls, sep = (np.array([tok.token_to_id(token)], np.int64) for token in ("[CLS]", "[SEP]"))
    head: Ids = np.concatenate((cls, question_ids(question), sep))
    body, n = sentence.ids[:-1], len(sentence.ids) - 1
    if n == 0:
        raise TextError("the sentence has no words")
    width = min(n, MAX_SEQUENCE_TOKENS - len(head) - 1)
    starts = _window_starts(n, width)
    if len(starts) > MAX_WINDOWS:
        raise TextError(f"the sentence has {n} tokens, too many for {MAX_WINDOWS} windows")
    rows: list[Ids] = []
    places: list[Ids] = []
    for start in starts:
        rows.append(np.concatenate((head, body[start : start + width], sep)))
        place = np.full((len(rows[-1]), 2), -1, np.int64)
        place[len(head) : len(head) + width] = sentence.offsets[start : start + width]
        places.append(place)
    input_ids = np.stack(rows)
    types = np.zeros_like(input_ids)
    types[:, len(head) :] = 1
    return Inputs(input_ids, np.ones_like(input_ids), types, np.stack(places))


def _window_starts(n: int, width: int) -> list[int]:
    """First tokens of the windows of `width` that cover n tokens; the last one is moved back to end at n."""
    step = max(1, width - WINDOW_OVERLAP_TOKENS)
    return [*range(0, n - width, step), n - width]
