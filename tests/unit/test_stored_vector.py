"""Vectors as bytes: what goes in comes out, and what is not of the text does not."""

from __future__ import annotations

import numpy as np
import pytest

from keymiss.reading.stored_vector import (
    DIMENSIONS,
    FIELD_BYTES,
    from_field,
    question_from_bytes,
    question_to_bytes,
    to_field,
)


@pytest.fixture
def vector() -> np.ndarray:
    made = np.random.default_rng(1).standard_normal(DIMENSIONS).astype(np.float32)
    return made / np.linalg.norm(made)


def test_a_field_holds_a_vector_of_a_text(vector: np.ndarray) -> None:
    field = to_field("Masks help.", vector)
    assert len(field) == FIELD_BYTES
    found = from_field(field, "Masks help.")
    assert found is not None
    assert found == pytest.approx(vector, abs=1e-3)


def test_another_text_or_broken_bytes_are_no_vector(vector: np.ndarray) -> None:
    field = to_field("Masks help.", vector)
    assert from_field(field, "Masks help") is None
    assert from_field(field[:-1], "Masks help.") is None
    assert from_field(b"", "") is None
    assert from_field(to_field("x", vector * 2), "x") is None
    assert from_field(to_field("x", vector * 0), "x") is None
    assert from_field(to_field("x", vector * np.nan), "x") is None


def test_a_vector_of_another_length_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        to_field("x", vector[:100])


def test_a_question_s_vector(vector: np.ndarray) -> None:
    found = question_from_bytes(question_to_bytes(vector))
    assert found is not None
    assert np.array_equal(found, vector)
    assert question_from_bytes(b"OK") is None
    assert question_from_bytes(question_to_bytes(vector * 3)) is None


def test_a_text_that_is_not_unicode_has_a_digest(vector: np.ndarray) -> None:
    text = b"\xff".decode("utf-8", "surrogateescape")
    assert from_field(to_field(text, vector), text) is not None
