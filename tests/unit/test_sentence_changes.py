"""Which sentences something is to be made of again; the marks of tensors and vectors tell the same."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from keymiss.pipeline.changes import Changes, changes
from keymiss.pipeline.records import as_dict, as_list, parts, text_of
from keymiss.pipeline.tokens import is_of, token_mark, token_tensor
from keymiss.pipeline.vectors import vector_marks
from keymiss.reading.stored_vector import DIMENSIONS, text_digest, to_field
from keymiss.reading.tensors import from_values

SENTENCES: dict[str | bytes, str | bytes] = {"0": "Masks help.", "1": "Bats fly."}


def test_what_is_new_what_has_changed_and_what_is_gone() -> None:
    made = {"0": token_mark("Masks help."), "1": token_mark("Bats flew."), "2": token_mark("Gone.")}
    assert changes(SENTENCES, made, token_mark) == Changes({"1": "Bats fly."}, ["2"])
    assert changes(SENTENCES, {}, token_mark) == Changes({"0": "Masks help.", "1": "Bats fly."}, [])
    assert changes(None, made, token_mark) == Changes({}, ["0", "1", "2"])


def test_one_that_was_begun_is_made_again() -> None:
    """Its mark is empty until its tensor is there."""
    assert changes({"0": "Masks help."}, {"0": ""}, token_mark) == Changes({"0": "Masks help."}, [])


def test_a_sentence_that_is_not_utf8_is_none() -> None:
    made = {"0": token_mark("what it was before")}
    assert changes({"0": b"\xff", b"\xfe": "text"}, made, token_mark) == Changes({}, ["0"])


def test_marks_are_of_the_sentence() -> None:
    assert token_mark("Ärzte") == hashlib.sha1("Ärzte".encode()).hexdigest()[:16]
    field = to_field("Masks help.", np.ones(DIMENSIONS, np.float32))
    by_reply = as_dict(["0", field, "1", "this one is UTF-8 by chance"])
    assert vector_marks(by_reply) == {"0": text_digest("Masks help."), "1": b"this one"}


def test_a_tensor_is_that_of_its_tokens_only() -> None:
    ids = np.array([7, 8, 102], np.int64)
    assert token_tensor(ids).dims == (1, 3)
    assert is_of(token_tensor(ids), ids)
    assert not is_of(token_tensor(ids[:2]), ids)
    assert not is_of(from_values("INT64", [1, 3], [7, 9, 102]), ids)
    assert not is_of(from_values("FLOAT", [1, 3], [7, 8, 102]), ids)


def test_names_and_values_in_turn() -> None:
    assert as_dict(as_list({"a": "1", "b": ""})) == {"a": "1", "b": ""}
    assert as_dict([]) == {}
    assert [list(some) for some in parts("abcde", 2)] == [["a", "b"], ["c", "d"], ["e"]]
    with pytest.raises(ValueError, match="the question is not UTF-8"):
        text_of(b"\xff", "the question")
