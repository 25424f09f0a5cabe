"""From the concepts of sentences to pairs gained and lost."""

from __future__ import annotations

from keymiss.pipeline.concepts import (
    MAX_CONCEPTS,
    Entry,
    SentenceChange,
    changed_concepts,
    edges_command,
    entries_between,
    write_command,
)

SENTENCE = "A1:{x}:0"


def ids_in(sentence: str) -> list[str]:
    return [word for word in sentence.split() if word.startswith("C")]


def name_of(idx: str) -> str:
    return f"A1:{{x}}:{idx}"


def entry(op: str, source: str, target: str, score: str, year: str) -> Entry:
    return Entry(op, source, target, SENTENCE, score, year)


def test_every_two_concepts_are_a_pair() -> None:
    assert entries_between("", "2019 C2 C1 C4", SENTENCE) == [
        entry("add", "C1", "C2", "0.6667", "2019"),
        entry("add", "C1", "C4", "0.6667", "2019"),
        entry("add", "C2", "C4", "0.6667", "2019"),
    ]
    assert entries_between("", "2019 C1", SENTENCE) == []
    assert entries_between("", " C1 C3", SENTENCE) == [entry("add", "C1", "C3", "1", "")]


def test_a_pair_of_another_year_goes_and_comes() -> None:
    assert entries_between("2019 C1 C3", "2021 C1 C3", SENTENCE) == [
        entry("del", "C1", "C3", "1", "2019"),
        entry("add", "C1", "C3", "1", "2021"),
    ]


def test_a_pair_of_another_score_comes_again_only() -> None:
    assert entries_between("2019 C1 C2 C3", "2019 C1 C3", SENTENCE) == [
        entry("del", "C1", "C2", "0.6667", "2019"),
        entry("del", "C2", "C3", "0.6667", "2019"),
        entry("add", "C1", "C3", "1", "2019"),
    ]


def test_what_was_found_before_is_not_found_again() -> None:
    sentences = {"0": "C1 and C3", "1": "C2 alone", "2": "nothing"}
    known = {"0": "2019 C1 C3", "1": "2019 C2"}
    assert changed_concepts(sentences, known, "2019", ids_in, name_of) == []
    (change,) = changed_concepts({**sentences, "2": "C4"}, known, "2019", ids_in, name_of)
    assert change == SentenceChange("2", "2019 C4", [])


def test_what_is_gone_and_what_is_not_utf8_has_nothing() -> None:
    known = {"0": "2019 C1 C3", "1": "2019 C1 C3"}
    lost = [entry("del", "C1", "C3", "1", "2019"), Entry("del", "C1", "C3", name_of("1"), "1", "2019")]
    gone = [SentenceChange("0", "", lost[:1]), SentenceChange("1", "", lost[1:])]
    assert changed_concepts({"0": b"C1 C3 \xff"}, known, "2019", ids_in, name_of) == gone
    assert changed_concepts(None, known, "2019", ids_in, name_of) == gone
    assert changed_concepts({"0": "C1 C3", "1": "C1 C3"}, known, "2019", None, name_of) == gone


def test_the_first_concepts_of_a_long_list_count() -> None:
    sentence = " ".join(f"C{i:02}" for i in range(MAX_CONCEPTS + 2))
    (change,) = changed_concepts({"0": sentence}, {}, "", ids_in, name_of)
    assert len(change.found.split()) == MAX_CONCEPTS
    assert len(change.entries) == MAX_CONCEPTS * (MAX_CONCEPTS - 1) / 2
    assert {one.target for one in change.entries} < set(sentence.split()[:MAX_CONCEPTS])


def test_entries_and_what_was_found_are_two_commands() -> None:
    changed = [SentenceChange("0", "2019 C1 C3", [entry("add", "C1", "C3", "1", "2019")])]
    changed.append(SentenceChange("1", "", []))
    edges = edges_command("edges:{x}", changed)
    assert edges[2:] == ["1", "edges:{x}", "add", "C1", "C3", SENTENCE, "1", "2019"]
    assert edges_command("edges:{x}", changed[1:]) == []
    assert write_command("concepts:A1:{y}", changed)[2:] == [
        *("1", "concepts:A1:{y}"),
        *("0", "2019 C1 C3", "1", ""),
    ]
