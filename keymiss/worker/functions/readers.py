"""For gears functions: the reader (tokenizer and calibration) that belongs to a model on the job's shard, and
the encoder that belongs to one that makes vectors.

from keymiss.worker.functions.readers import encoder_of, reader_of
"""

from __future__ import annotations

from functools import lru_cache

from keymiss.reading.backends.base import ModelError
from keymiss.reading.encoder import Encoder
from keymiss.reading.reader import LOWER, About, Reader, default_reader
from keymiss.reading.tokenizers import TextError
from keymiss.worker.functions.job_context import current


@lru_cache(maxsize=8)
def _reader(about: About) -> Reader:
    return Reader.of(about)


def reader_of(model_key: str) -> Reader:
    """The reader of the model at `model_key`, or that of KEYMISS_MODEL if the model's file names none.
    ModelError if there is no model or it is bad, FileNotFoundError if KEYMISS_MODEL has no tokenizer."""
    context = current()
    model, _ = context.services.models.store.get(context.shard, context.connection, model_key)
    return reader_for(model_key, model.about)


def reader_for(model_key: str, about: About | None) -> Reader:
    """The same, of a model that says this of itself."""
    if about is None:
        return default_reader()
    try:
        return _reader(about)
    except TextError as error:
        raise ModelError(f"model {model_key}: {error}") from error


def lower_half(lower_key: str) -> tuple[About, str]:
    """What the model at `lower_key` says of itself, and its SHA-256. ModelError if there is none, or it is no
    lower half of a split reader."""
    context = current()
    model, sha256 = context.services.models.store.get(context.shard, context.connection, lower_key)
    return checked_lower(lower_key, model.about), sha256


def checked_lower(lower_key: str, about: About | None) -> About:
    """The same, of a model that says this of itself."""
    if about is None or about.half is None or about.half.name != LOWER:
        raise ModelError(f"model {lower_key} is no lower half of a split reader: keymiss models load")
    return about


def reader_for_tokens(model_key: str) -> Reader:
    """`reader_of`, but that of KEYMISS_MODEL while there is no model that can be used: whoever asks about a
    sentence tokenizes it again if its tensor is of another tokenizer."""
    try:
        return reader_of(model_key)
    except ModelError:
        return default_reader()


@lru_cache(maxsize=4)
def _encoder(about: About, sha256: str) -> Encoder:
    return Encoder.of(about, sha256)


def encoder_of(model_key: str) -> Encoder | None:
    """The encoder of the model at `model_key`; None if there is no model. ModelError if it is none that makes
    vectors."""
    context = current()
    if context.connection.command("KM.MODELINFO", model_key) is None:
        return None
    model, sha256 = context.services.models.store.get(context.shard, context.connection, model_key)
    return encoder_for(model_key, model.about, sha256)


def encoder_for(model_key: str, about: About | None, sha256: str) -> Encoder:
    """The same, of a model that says this of itself."""
    if about is None:
        raise ModelError(
            f"model {model_key}: its file has no tokenizer; store it by keymiss models load-encoder"
        )
    try:
        return _encoder(about, sha256)
    except TextError as error:
        raise ModelError(f"model {model_key}: {error}") from error
