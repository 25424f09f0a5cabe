"""Commands as they go over the wire."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymiss.cluster.packing import packed


def on_the_wire(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


WORDS = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.integers())


@given(st.lists(WORDS))
def test_texts_bytes_and_numbers(words: list[object]) -> None:
    as_bytes = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    assert packed(["SET", *words]) == on_the_wire(b"SET", *as_bytes)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (True, b"1"),
        (0.1, b"0.1"),
        (np.int64(7), b"7"),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (memoryview(b"ab")[1:], b"b"),
        (b"\xff\xfe".decode(errors="surrogateescape"), b"\xff\xfe"),
        (None, b"None"),
    ],
)
def test_other_words(word: object, expected: bytes) -> None:
    assert packed(("GET", "a", word)) == on_the_wire(b"GET", b"a", expected)


@pytest.mark.parametrize("name", ["CONFIG GET", b"CONFIG GET"])
def test_a_name_of_two_words(name: str | bytes) -> None:
    assert packed([name, "a b"]) == on_the_wire(b"CONFIG", b"GET", b"a b")
