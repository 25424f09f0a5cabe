"""Python values as raw RESP2, checked by the parser of redis-py."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymiss.worker.jobs import resp


def parse(raw: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(raw)
    value = reader.gets()
    assert reader.gets() is False, "more than one value"
    return value


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (None, b"$-1\r\n"),
        (True, b":1\r\n"),
        (-7, b":-7\r\n"),
        (2**63, b"$19\r\n9223372036854775808\r\n"),
        (1.5, b"$3\r\n1.5\r\n"),
        (resp.Double(0.1), b",0.1\r\n"),
        (resp.Double(float("-inf")), b",-inf\r\n"),
        ("", b"$0\r\n\r\n"),
        ("hé", b"$3\r\nh\xc3\xa9\r\n"),
        (bytearray(b"\0\r\n"), b"$3\r\n\0\r\n\r\n"),
        ([], b"*0\r\n"),
        (("a", [1, None]), b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n"),
        ({"k": 1}, b"*2\r\n$1\r\nk\r\n:1\r\n"),
        (resp.Status("OK"), b"+OK\r\n"),
        (resp.Error("ERR two\r\nlines"), b"-ERR two lines\r\n"),
        (resp.Error("ERR a\0b"), b"-ERR a b\r\n"),
        (KeyError("x"), b"-ERR KeyError: 'x'\r\n"),
    ],
)
def test_encoding(value: object, raw: bytes) -> None:
    assert resp.encode(value) == raw


def test_anything_else_is_its_str() -> None:
    assert parse(resp.encode(range(2))) == b"range(0, 2)"


_VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=20,
)


def as_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [as_bytes(entry) for entry in value]
    return value.encode() if isinstance(value, str) else value


@given(_VALUES)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert parse(resp.encode(value)) == as_bytes(value)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("-ERR no", resp.Error("ERR no")),
        ("+OK", resp.Status("OK")),
        ("-80 degrees", "-80 degrees"),
        ("-", "-"),
        ("+ssRNA", "+ssRNA"),
        (b"-ERR no", b"-ERR no"),
        (None, None),
        (5, 5),
    ],
)
def test_override_reply(value: object, meant: object) -> None:
    assert resp.from_override(value) == meant
