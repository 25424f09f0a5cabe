"""How a sentence's vector is kept: a field of ``vectors:<article>:{tag}``, and a question's as a string.

A field is 8 bytes of the SHA-1 of the text that was encoded, 8 bytes of the SHA-256 of the encoder's file,
then the vector as float16, little endian. By the marks a reader sees that a vector is of an older text, and a
writer that it need not encode again. A question's vector has the encoder's mark too: vectors of two encoders
are never compared. Vectors have unit length, so that the scalar product is the cosine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 384
DIGEST_BYTES = 8
ENCODER_BYTES = 8
MARK_BYTES = DIGEST_BYTES + ENCODER_BYTES
FIELD_BYTES = MARK_BYTES + 2 * DIMENSIONS
LONGEST_ERROR = 0.02  # of a unit vector's length; float16 itself is off by 0.0005

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A vector [DIMENSIONS] of unit length, and the mark of the encoder that made it."""

    encoder: bytes
    vector: Vector


def encoder_mark(sha256: str) -> bytes:
    """Of an encoder's file, by its SHA-256 in hex."""
    return bytes.fromhex(sha256)[:ENCODER_BYTES]


def text_digest(text: str) -> bytes:
    """The first DIGEST_BYTES of the SHA-1 of a text."""
    return hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()[
        :DIGEST_BYTES
    ]


def vector_mark(text: str, encoder: bytes) -> bytes:
    """What a field begins with: of which text it is, and of which encoder (its mark)."""
    return text_digest(text) + encoder


def to_field(text: str, vector: NDArray[np.floating], encoder: bytes) -> bytes:
    """The field of a text and its vector [DIMENSIONS]. ValueError if the vector is not that long, or the
    encoder has no mark."""
    return vector_mark(text, encoder) + _checked(vector, encoder).astype("<f2").tobytes()


def from_field(field: bytes, text: str) -> Encoded | None:
    """The vector in a field, None if it is of another text or no unit vector."""
    if len(field) != FIELD_BYTES or field[:DIGEST_BYTES] != text_digest(text):
        return None
    return _unit(field[DIGEST_BYTES:MARK_BYTES], np.frombuffer(field, "<f2", offset=MARK_BYTES))


def question_to_bytes(vector: NDArray[np.floating], encoder: bytes) -> bytes:
    """The encoder's mark and a question's vector [DIMENSIONS] as float32, little endian. ValueError as
    `to_field`."""
    return encoder + _checked(vector, encoder).astype("<f4").tobytes()


@lru_cache(256)  # read for each question, and most often the same
def question_from_bytes(value: bytes) -> Encoded | None:
    """The vector in a question's string, None if it is no unit vector."""
    if len(value) != ENCODER_BYTES + 4 * DIMENSIONS:
        return None
    return _unit(value[:ENCODER_BYTES], np.frombuffer(value, "<f4", offset=ENCODER_BYTES))


def _checked(vector: NDArray[np.floating], encoder: bytes) -> NDArray[np.floating]:
    if vector.shape != (DIMENSIONS,):
        raise ValueError(f"a vector of shape {vector.shape}, not ({DIMENSIONS},)")
    if len(encoder) != ENCODER_BYTES:
        raise ValueError(f"an encoder's mark of {len(encoder)} bytes, not {ENCODER_BYTES}")
    return vector


def _unit(encoder: bytes, vector: NDArray[np.floating]) -> Encoded | None:
    found = vector.astype(np.float32)
    found.flags.writeable = False  # it may be given to several
    length = float(np.linalg.norm(found))
    return Encoded(encoder, found) if abs(length - 1) <= LONGEST_ERROR else None  # not of a NaN either
