"""Hypothesis against real servers: what a worker answers reaches the client as it was sent or is refused;
keys mean the same to the server, the module and keymiss/keys.py. KEYMISS_TEST_FUZZ says how much is tried."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keymiss import keys
from tests.hand_worker import HandWorker, bulk, register_miss
from tests.patience import patient
from tests.servers import RedisServer

TRIED = 10 * int(os.environ.get("KEYMISS_TEST_FUZZ", "20"))
PREFIX = b"bertqa"
MOST_DEEP = 16
TRY = settings(
    max_examples=TRIED,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

line = st.binary(max_size=12).map(lambda raw: raw.translate(None, b"\r\n\0"))
simple = st.one_of(
    st.integers(-(10**17), 10**17).map(lambda number: b":%d\r\n" % number),
    st.binary(max_size=30).map(bulk),
    line.map(lambda text: b"+%s\r\n" % text),
    line.map(lambda text: b"-%s\r\n" % text),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n"]),
)


def array(each: list[bytes]) -> bytes:
    return b"*%d\r\n%s" % (len(each), b"".join(each))


values = st.recursive(simple, lambda inner: st.lists(inner, max_size=4).map(array))
"""Right ones."""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A right one with some bytes more, fewer or others."""
    raw = draw(values)
    at = draw(st.integers(0, len(raw)))
    put = draw(st.one_of(st.binary(max_size=4), st.sampled_from([b"\r\n", b"-", b"9" * 19, b"*1\r\n" * 40])))
    return raw[:at] + put + raw[at + draw(st.integers(0, 4)) :]


key_texts = st.text(alphabet="{}:_ab10 \u00fc\0\n", max_size=24)


def end_of(raw: bytes, at: int, depth: int = 1) -> int:
    """Where the RESP2 value that begins at `at` ends. ValueError when there is none."""
    kind, found = raw[at : at + 1], raw.find(b"\r", at)
    if depth > MOST_DEEP or kind not in (b"+", b"-", b":", b"$", b"*") or raw[found : found + 2] != b"\r\n":
        raise ValueError
    words, after = raw[at + 1 : found], found + 2
    if b"\n" in words or (kind in b"+-" and b"\0" in words):
        raise ValueError
    if kind in b"+-":
        return after
    digits = words.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 18:
        raise ValueError
    number = int(words)
    if kind == b":" or number == -1:
        return after
    if number < 0:
        raise ValueError
    if kind == b"$":
        if raw[after + number : after + number + 2] != b"\r\n":
            raise ValueError
        return after + number + 2
    for _ in range(number):
        after = end_of(raw, after, depth + 1)
    return after


def is_one_value(raw: bytes) -> bool:
    try:
        return end_of(raw, 0) == len(raw)
    except ValueError:
        return False


class Line:
    """A client that reads the very bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), patient(20))

    def send(self, *words: bytes) -> None:
        self.socket.sendall(b"*%d\r\n%s" % (len(words), b"".join(map(bulk, words))))

    def reply(self) -> bytes:
        raw = b""
        while not is_one_value(raw):
            more = self.socket.recv(65536)
            assert more, "the server closed the connection"
            raw += more
        return raw


@pytest.fixture
def asked(server: RedisServer) -> Iterator[tuple[RedisServer, HandWorker, Line]]:
    with server.client() as client:
        register_miss(client, prefix=PREFIX.decode())
    line = Line(server.port)
    yield server, HandWorker(server), line
    line.socket.close()


@TRY
@given(raw=st.one_of(values, damaged(), st.binary(max_size=40)), rest=key_texts)
def test_an_answer_is_what_the_worker_sent_or_refused(
    asked: tuple[RedisServer, HandWorker, Line], raw: bytes, rest: str
) -> None:
    _, worker, client = asked
    key = PREFIX + rest.encode()
    client.send(b"GET", key)
    (job,) = worker.pull()
    assert job.key == key
    if is_one_value(raw):
        assert worker.done(job, raw) == 1
        assert normal(client.reply()) == normal(raw)
    else:
        with pytest.raises(redis.ResponseError, match="RESP2"):
            worker.done(job, raw)
        assert worker.done(job, b"+later\r\n") == 1, "it still waits"
        assert client.reply() == b"+later\r\n"


@TRY
@given(text=st.binary(max_size=40), plain=st.booleans())
def test_an_error_is_one_line(asked: tuple[RedisServer, HandWorker, Line], text: bytes, plain: bool) -> None:
    _, worker, client = asked
    client.send(b"GET", PREFIX)
    (job,) = worker.pull()
    assert worker.client.execute_command("KM.FAIL", job.id, text, *(["PLAIN"] if plain else [])) == 1
    said = client.reply()
    assert said.startswith(b"-")
    shown = said[1:-2].removeprefix(b"FAILED ")
    assert len(shown) == len(text) or plain
    assert shown.split() == text.translate(bytes.maketrans(b"\r\n\0", b"   ")).split() or plain


def normal(raw: bytes) -> Any:
    """The value, where two ways to write it are one: both nulls, -0 and 007."""
    kind, words = raw[:1], raw[1 : raw.find(b"\r")]
    after = raw.find(b"\r") + 2
    if kind in b"+-":
        return kind + words
    number = int(words)
    if kind == b":":
        return number
    if number == -1:
        return None
    if kind == b"$":
        return [raw[after : after + number]]
    each = []
    for _ in range(number):
        end = end_of(raw, after)
        each.append(normal(raw[after:end]))
        after = end
    return tuple(each)


@TRY
@given(rest=st.text(alphabet="bertqa{}_:x", max_size=12))
def test_only_watched_keys_are_asked(asked: tuple[RedisServer, HandWorker, Line], rest: str) -> None:
    _, worker, client = asked
    key = rest.encode()
    client.send(b"GET", key)
    if not key.startswith(PREFIX):
        assert client.reply() == b"$-1\r\n"
        return
    (job,) = worker.pull()
    assert job.key == key
    assert worker.done(job, b":1\r\n") == 1
    assert client.reply() == b":1\r\n"


def test_the_server_has_our_slots() -> None:
    with RedisServer(cluster=True) as node, node.client() as client:

        @TRY
        @given(key=st.one_of(key_texts.map(str.encode), st.binary(max_size=30)))
        def same(key: bytes) -> None:
            assert client.execute_command("CLUSTER", "KEYSLOT", key) == keys.slot_of(key)

        same()


@TRY
@given(key=st.one_of(key_texts, key_texts.map("bertqa{{ab}}_{}".format)))
def test_a_key_is_taken_apart_as_it_was_put_together(key: str) -> None:
    try:
        parts = keys.parse_answer_key(key)
    except ValueError:
        return
    made = parts.answer_key if parts.kind == keys.ANSWER_PREFIX else parts.span_key
    assert made == key


@TRY
@given(
    article=st.text(alphabet="ab1.-", min_size=1, max_size=12),
    tag=st.sampled_from(keys.part_tags()),
    idx=st.integers(0, 10**6),
    question=st.text(min_size=1, max_size=40),
)
def test_an_answer_key_has_its_parts(article: str, tag: str, idx: int, question: str) -> None:
    for made in (keys.answer_key, keys.span_key):
        key = made(article, tag, idx, question)
        parts = keys.parse_answer_key(key)
        assert (parts.article, parts.tag, parts.idx, parts.question) == (article, tag, str(idx), question)
        assert keys.slot_of(key) == keys.slot_of(parts.sentence_key) == keys.slot_of(f"{{{tag}}}")
