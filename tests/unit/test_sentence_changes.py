"""Which sentences something is to be made of again; the marks of tensors and vectors tell the same."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pytest

from keymiss.pipeline.changes import Changes, changes
from keymiss.pipeline.records import as_dict, as_list, parts, text_of
from keymiss.pipeline.tokens import offsets_tensor, sentence_in, token_tensor
from keymiss.pipeline.tokens import token_mark as mark_by
from keymiss.pipeline.vectors import vector_marks
from keymiss.reading.stored_vector import DIMENSIONS, to_field, vector_mark
from keymiss.reading.tensors import from_values

token_mark = partial(mark_by, tokenizer_digest="12345678")
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
    assert token_mark("Ärzte") == f"{hashlib.sha1('Ärzte'.encode()).hexdigest()[:16]} 12345678"
    field = to_field("Masks help.", np.ones(DIMENSIONS, np.float32), b"encoder1")
    by_reply = as_dict(["0", field, "1", "this one is UTF-8 by chance"])
    expected = {"0": vector_mark("Masks help.", b"encoder1"), "1": b"this one is UTF-"}
    assert vector_marks(by_reply) == expected


def test_a_sentence_is_that_of_its_two_tensors() -> None:
    ids, offsets = np.array([7, 8, 102], np.int64), np.array([[0, 5], [6, 11]], np.int64)
    tensors = token_tensor(ids), offsets_tensor(offsets)
    assert [tensor.dims for tensor in tensors] == [(1, 3), (2, 2)]
    found = sentence_in("Masks help.", *tensors)
    assert found is not None
    assert (found.text, found.ids.tolist(), found.offsets.tolist()) == (
        "Masks help.",
        ids.tolist(),
        offsets.tolist(),
    )
    assert sentence_in("Masks help.", None, tensors[1]) is None
    assert sentence_in("Masks help.", tensors[0], None) is None
    assert sentence_in("Masks help.", token_tensor(ids[:2]), tensors[1]) is None
    assert sentence_in("Masks help.", from_values("FLOAT", [1, 3], [7, 8, 102]), tensors[1]) is None
    assert sentence_in("Masks help.", tensors[0], from_values("INT64", [2, 2], [0, 5, 6, 11])) is None


def test_names_and_values_in_turn() -> None:
    assert as_dict(as_list({"a": "1", "b": ""})) == {"a": "1", "b": ""}
    assert as_dict([]) == {}
    assert [list(some) for some in parts("abcde", 2)] == [["a", "b"], ["c", "d"], ["e"]]
    with pytest.raises(ValueError, match="the question is not UTF-8"):
        text_of(b"\xff", "the question")
