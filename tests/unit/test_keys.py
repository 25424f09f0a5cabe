"""Key names, tags and slots."""

from __future__ import annotations

import pytest

from keymiss import keys


@pytest.mark.parametrize(
    ("key", "slot"),
    [("", 0), ("123456789", 12739), ("foo", 12182), (b"\xff", keys.slot_of("\udcff")), ("06S", 0)],
)
def test_slot_of_known_keys(key: str | bytes, slot: int) -> None:
    assert keys.slot_of(key) == slot


def test_only_the_first_non_empty_brace_pair_is_the_hash_tag() -> None:
    assert keys.slot_of("a{foo}b{bar}") == keys.slot_of("foo")
    assert keys.slot_of("a{}foo") != keys.slot_of("foo")
    assert keys.slot_of("{foo") != keys.slot_of("foo")


def test_tag_for_every_slot() -> None:
    for slot in range(keys.SLOTS):
        assert keys.slot_of(keys.tag_for_slot(slot)) == slot
    assert len({keys.tag_for_slot(slot) for slot in range(keys.SLOTS)}) == keys.SLOTS


def test_tags_are_part_of_the_data_format() -> None:
    assert [keys.tag_for_slot(slot) for slot in (0, 4096, 8192, 12288)] == ["1bz", "17p", "fjl", "356"]


@pytest.mark.parametrize("slot", [-1, 16384])
def test_tag_for_a_slot_that_does_not_exist(slot: int) -> None:
    with pytest.raises(ValueError, match="is not in 0"):
        keys.tag_for_slot(slot)


def test_keys_used_together_share_a_slot() -> None:
    tag = keys.tag_for_slot(8192)
    together = [
        keys.sentence_key("PMC1.xml", tag),
        keys.tokenized_key("PMC1.xml", tag, 7),
        keys.offsets_key("PMC1.xml", tag, 7),
        keys.tokens_key("PMC1.xml", tag),
        keys.states_key("PMC1.xml", tag, 7),
        keys.lower_key("PMC1.xml", tag),
        keys.question_states_key(tag, "0" * 64, "Who {is} it"),
        keys.model_key(tag),
        keys.lower_model_key(tag),
        keys.answer_key("PMC1.xml", tag, 7, "Who {is} it"),
        keys.span_key("PMC1.xml", tag, 7, "Who {is} it"),
        keys.concepts_key("PMC1.xml", tag),
        keys.edges_key(tag),
        keys.graph_edge_key(tag, "KC0001", "KC0002"),
        keys.graph_years_key(tag, "KC0001", "KC0002"),
        keys.graph_links_key(tag, "KC0001"),
        keys.graph_nodes_key(tag),
    ]
    assert {keys.slot_of(key) for key in together} == {8192}


def test_answer_key_as_the_design_writes_it() -> None:
    key = keys.answer_key("PMC169038.xml", "6fd", 33, "Who performs viral transmission")
    assert key == "bertqa{6fd}_PMC169038.xml:{6fd}:33_Who performs viral transmission"


@pytest.mark.parametrize("question", ["Who", "snake_case_question", "a{b}c", "_", "späte Frage?"])
def test_answer_keys_come_apart_again(question: str) -> None:
    for make, kind in ((keys.answer_key, "bertqa"), (keys.span_key, "bertspan")):
        parts = keys.parse_answer_key(make("A:1", "x", 3, question))
        assert parts == keys.AnswerKey(kind, "x", "A:1", "3", question)
    assert parts.answer_key == keys.answer_key("A:1", "x", 3, question)
    assert parts.span_key == keys.span_key("A:1", "x", 3, question)
    assert parts.sentence_key == "sentence:A:1:{x}"
    assert parts.tokenized_key == "tokenized:bert:qa:A:1:{x}:3"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "bertqa",
        "bertqa{x}",
        "bertqa{x}_a:{x}:1",
        "bertqa{x}_a:{x}:1_",
        "bertqa{x}_a:{y}:1_q",
        "bertqa{x}_:{x}:1_q",
        "other{x}_a:{x}:1_q",
        "bertqa{x}_a:{x}:_q",
        "bertqax_a:{x}:1_q",
    ],
)
def test_what_is_no_answer_key(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        keys.parse_answer_key(key)


@pytest.mark.parametrize("article", ["", "a_b", "a{b", "a}b", "a\0b"])
def test_article_names_that_would_break_keys(article: str) -> None:
    with pytest.raises(ValueError, match="name must not"):
        keys.sentence_key(article, "x")


def test_keys_of_an_article_come_apart_again() -> None:
    for make in (
        keys.sentence_key,
        keys.state_key,
        keys.tokens_key,
        keys.lower_key,
        keys.concepts_key,
        keys.vectors_key,
    ):
        assert keys.parse_article_key(make("A:1", "x")) == ("A:1", "x")
    for make_text in (keys.paragraphs_key, keys.article_key):
        assert keys.article_of(make_text("A:1")) == "A:1"
    assert keys.tag_in(keys.edges_key("x")) == "x"
    assert [keys.tag_in(key) for key in ("", "edges:", "a{x", "a}x{")] == [""] * 4


def test_what_a_key_is_made_from() -> None:
    for make in (keys.tokens_key, keys.lower_key, keys.concepts_key, keys.vectors_key):
        assert keys.made_from(make("A:1", "x")) == keys.sentence_key("A:1", "x")
    for make in (keys.sentence_key, keys.state_key):
        assert keys.made_from(make("A:1", "x")) == keys.paragraphs_key("A:1")


@pytest.mark.parametrize(
    "key", ["", "sentence:", "sentence:a", "sentence:{x}", "sentence:a:{x", "sentence:a_b:{x}"]
)
def test_what_is_no_key_of_an_article(key: str) -> None:
    with pytest.raises(ValueError, match=r"key of the form|name must not"):
        keys.parse_article_key(key)


def test_a_question_s_vector_key_comes_apart_again() -> None:
    assert keys.parse_vector_key(keys.question_vector_key("x", "who_is {it}?")) == ("x", "who_is {it}?")
    for key in ("bertvec{x}", "bertvec{x}_", "bertvec{x}_ \t"):
        with pytest.raises(ValueError, match="no question"):
            keys.parse_vector_key(key)
