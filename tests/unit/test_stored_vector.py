"""Vectors as bytes: what goes in comes out, and what is not of the text does not."""

from __future__ import annotations

import numpy as np
import pytest

from keymiss.reading.stored_vector import (
    DIMENSIONS,
    FIELD_BYTES,
    encoder_mark,
    from_field,
    question_from_bytes,
    question_to_bytes,
    to_field,
)

MARK = encoder_mark("0123456789abcdef" * 4)


@pytest.fixture
def vector() -> np.ndarray:
    made = np.random.default_rng(1).standard_normal(DIMENSIONS).astype(np.float32)
    return made / np.linalg.norm(made)


def test_a_field_holds_a_vector_of_a_text(vector: np.ndarray) -> None:
    field = to_field("Masks help.", vector, MARK)
    assert len(field) == FIELD_BYTES
    found = from_field(field, "Masks help.")
    assert found is not None
    assert found.vector == pytest.approx(vector, abs=1e-3)
    assert found.encoder == MARK == bytes.fromhex("0123456789abcdef")


def test_another_text_or_broken_bytes_are_no_vector(vector: np.ndarray) -> None:
    field = to_field("Masks help.", vector, MARK)
    assert from_field(field, "Masks help") is None
    assert from_field(field[:-1], "Masks help.") is None
    assert from_field(b"", "") is None
    assert from_field(to_field("x", vector * 2, MARK), "x") is None
    assert from_field(to_field("x", vector * 0, MARK), "x") is None
    assert from_field(to_field("x", vector * np.nan, MARK), "x") is None


def test_a_vector_of_another_length_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        to_field("x", vector[:100], MARK)


def test_an_encoder_without_a_mark_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="mark of 0 bytes"):
        to_field("x", vector, b"")
    with pytest.raises(ValueError, match="mark of 0 bytes"):
        question_to_bytes(vector, b"")


def test_a_question_s_vector(vector: np.ndarray) -> None:
    found = question_from_bytes(question_to_bytes(vector, MARK))
    assert found is not None
    assert np.array_equal(found.vector, vector)
    assert found.encoder == MARK
    assert question_from_bytes(b"OK") is None
    assert question_from_bytes(question_to_bytes(vector * 3, MARK)) is None


def test_a_text_that_is_not_unicode_has_a_digest(vector: np.ndarray) -> None:
    text = b"\xff".decode("utf-8", "surrogateescape")
    assert from_field(to_field(text, vector, MARK), text) is not None
