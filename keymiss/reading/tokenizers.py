"""Where models and their tokenizers are, and how a tokenizer is loaded. Needs `tokenizers` only."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from keymiss.resources import PROJECT, default_var


class TextError(ValueError):
    """A question or sentence that cannot be put to the model; the text says why."""


def model_slug(model: str) -> str:
    """The file name stem under var/models for a model's folder or hub name."""
    name = Path(model).name if Path(model).is_dir() else model
    return re.sub(r"[^A-Za-z0-9._-]+", "--", name).strip(".-") or "model"


def models_folder() -> Path:
    """Where exported models are kept."""
    return Path(os.environ.get("KEYMISS_VAR") or default_var()) / "models"


def model_folder(model: str) -> Path | None:
    """The local folder that `model` names (as given, or from the project's root), or None for a hub name."""
    return next((path for path in (Path(model), PROJECT / model) if path.is_dir()), None)


def tokenizer_path() -> Path:
    """The tokenizer of the model in use (KEYMISS_MODEL); FileNotFoundError says how to get a missing one."""
    model = os.environ.get("KEYMISS_MODEL") or "models/reader"
    folder = model_folder(model)
    exported = models_folder() / f"{model_slug(str(folder or model))}.tokenizer.json"
    places = [folder / "tokenizer.json", exported] if folder else [exported]
    for path in places:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no tokenizer for {model}: run keymiss models export --model {model}")


@lru_cache(maxsize=4)
def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json. TextError if it is none, or not BERT's."""
    try:
        return tokenizer_from(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path} cannot be read: {error}") from None


def tokenizer_from(given: str, name: str) -> Tokenizer:
    """A tokenizer, from the text of a tokenizer.json, that neither cuts nor pads, and takes a "[SEP]" in a
    text for mere text. TextError, naming it `name`, if it is none or has no [CLS] and [SEP]."""
    try:
        loaded = Tokenizer.from_str(given)
    except Exception as error:  # the library raises plain Exceptions
        raise TextError(f"{name} has no tokenizer that can be read: {error}") from None
    loaded.encode_special_tokens = True
    loaded.no_truncation()
    loaded.no_padding()
    for token in ("[CLS]", "[SEP]"):
        if loaded.token_to_id(token) is None:
            raise TextError(f"{name} is not a BERT tokenizer: it has no {token}")
    return loaded


def marks_of(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of [CLS] and [SEP]. TextError if it has none."""
    cls, sep = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    if cls is None or sep is None:
        raise TextError("not a BERT tokenizer: it has no [CLS] or [SEP]")
    return cls, sep
