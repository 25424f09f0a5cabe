"""What a folder says of its encoder beside the weights, in the files of sentence-transformers.

    modules.json                       what follows the transformer
    1_Pooling/config.json              how the tokens' vectors become one: [CLS]'s, or the mean of all
    config_sentence_transformers.json  prompts: what is put before a question, and before a sentence

A folder without them is one of a plain transformer, as sentence-transformers takes it: the mean, no prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keymiss.models.forms import ExportError

CLS, MEAN = "cls", "mean"
MODULES_FILE, POOLING_FILE = "modules.json", "1_Pooling/config.json"
PROMPTS_FILE = "config_sentence_transformers.json"
ENCODER_FILES = (MODULES_FILE, POOLING_FILE, PROMPTS_FILE)
POOLINGS = {"pooling_mode_cls_token": CLS, "pooling_mode_mean_tokens": MEAN}
MODULES = {"Transformer", "Pooling", "Normalize"}  # vectors are made of unit length with or without the last
QUESTION_PROMPTS, SENTENCE_PROMPTS = ("query", "question"), ("document", "passage", "corpus")


@dataclass(frozen=True)
class EncoderFolder:
    """`pooling`: CLS or MEAN."""

    pooling: str
    question_prefix: str
    sentence_prefix: str

    @classmethod
    def of(cls, folder: Path) -> EncoderFolder:
        """ExportError if it says something that an export would leave out, or is not those files."""
        try:
            _check_modules(_read(folder / MODULES_FILE, []))
            prompts = _read(folder / PROMPTS_FILE, {}).get("prompts") or {}
            return cls(
                _pooling(_read(folder / POOLING_FILE, {})),
                _prompt(prompts, QUESTION_PROMPTS),
                _prompt(prompts, SENTENCE_PROMPTS),
            )
        except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
            raise ExportError(f"what {folder.name} says of its encoder cannot be read: {error}") from error


def _read(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise


def _check_modules(modules: Iterable[dict[str, Any]]) -> None:
    other = {module["type"].rpartition(".")[2] for module in modules} - MODULES
    if other:
        raise ExportError(f"an encoder with {', '.join(sorted(other))} cannot be exported")


def _pooling(config: dict[str, Any]) -> str:
    modes = {name for name, on in config.items() if name.startswith("pooling_mode_") and on}
    if not modes:
        return MEAN
    if len(modes) > 1 or not modes <= POOLINGS.keys():
        raise ExportError(
            f"only one of {', '.join(POOLINGS)} can be exported, not {', '.join(sorted(modes))}"
        )
    return POOLINGS[modes.pop()]


def _prompt(prompts: dict[str, Any], names: Iterable[str]) -> str:
    found = next((prompts[name] for name in names if prompts.get(name)), "")
    if not isinstance(found, str):
        raise ValueError(f"the prompt {found!r} is not a text")
    return found
