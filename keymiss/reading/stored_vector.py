"""How a sentence's vector is kept: a field of ``vectors:<article>:{tag}``, and a question's as a string.

A field is 8 bytes of the SHA-1 of the text that was encoded, then the vector as float16, little endian. By
the 8 bytes a reader sees that a vector is of an older text, and a writer that it need not encode again.
Vectors have unit length, so that the scalar product is the cosine.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 384
DIGEST_BYTES = 8
FIELD_BYTES = DIGEST_BYTES + 2 * DIMENSIONS
LONGEST_ERROR = 0.02  # of a unit vector's length; float16 itself is off by 0.0005

Vector = NDArray[np.float32]


def text_digest(text: str) -> bytes:
    """The first DIGEST_BYTES of the SHA-1 of a text."""
    return hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()[
        :DIGEST_BYTES
    ]


def to_field(text: str, vector: NDArray[np.floating]) -> bytes:
    """The field of a text and its vector [DIMENSIONS]. ValueError if the vector is not that long."""
    if vector.shape != (DIMENSIONS,):
        raise ValueError(f"a vector of shape {vector.shape}, not ({DIMENSIONS},)")
    return text_digest(text) + vector.astype("<f2").tobytes()


def from_field(field: bytes, text: str) -> Vector | None:
    """The vector in a field, None if it is of another text or no unit vector."""
    if len(field) != FIELD_BYTES or field[:DIGEST_BYTES] != text_digest(text):
        return None
    return _unit(np.frombuffer(field, "<f2", offset=DIGEST_BYTES).astype(np.float32))


def question_to_bytes(vector: NDArray[np.floating]) -> bytes:
    """A question's vector [DIMENSIONS] as float32, little endian."""
    return vector.astype("<f4").tobytes()


def question_from_bytes(value: bytes) -> Vector | None:
    """The vector in a question's string, None if it is no unit vector."""
    if len(value) != 4 * DIMENSIONS:
        return None
    return _unit(np.frombuffer(value, "<f4").astype(np.float32))


def _unit(vector: Vector) -> Vector | None:
    length = float(np.linalg.norm(vector))
    return vector if abs(length - 1) <= LONGEST_ERROR else None  # not of a NaN either
