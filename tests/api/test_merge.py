"""Ranking, duplicates and the count of what was answered."""

from __future__ import annotations

import json

import pytest

from keymiss.api.fanout import Outcome, Status
from keymiss.api.merge import coverage, merge, parse_answer
from keymiss.retrieval import Candidate


def outcome(
    answer: object,
    score: object,
    article: str = "A",
    idx: str = "0",
    sentence: str | None = None,
    bm25: float = 1.0,
    shard: str = "x",
) -> Outcome:
    candidate = Candidate(article, shard, idx, sentence or f"{article} {idx}", bm25)
    return Outcome(
        shard, candidate, Status.ANSWERED, json.dumps({"answer": answer, "score": score}).encode(), 1.0
    )


def not_answered(status: Status, shard: str) -> Outcome:
    return Outcome(shard, Candidate("A", shard, "0", "s", 1.0), status, None, 1.0)


def test_the_best_score_comes_first() -> None:
    merged = merge([outcome("a", 0.1), outcome("b", 0.7, idx="1"), outcome("c", 0.05, idx="2")], 10)
    assert [a.answer for a in merged] == ["b", "a", "c"]


def test_equal_scores_go_by_bm25_then_by_sentence_key() -> None:
    several = [
        outcome("z", 1, article="B"),
        outcome("y", 1, article="A"),
        outcome("x", 1, article="C", bm25=2.0),
    ]
    assert [a.answer for a in merge(several, 10)] == ["x", "y", "z"]
    assert merge(several, 10) == merge(reversed(several), 10)


def test_the_limit_keeps_the_best() -> None:
    several = [outcome("a", i / 10, idx=str(i)) for i in range(5)]
    assert [a.reader_score for a in merge(several, 2)] == [0.4, 0.3]


def test_a_sentence_far_from_the_question_loses_to_a_near_one() -> None:
    near, far = outcome("right", 0.3, bm25=10.0), outcome("sure of itself", 0.8, idx="1", bm25=3.3)
    best, second = merge([far, near], 10)
    assert best.answer == "right"
    assert best.score == pytest.approx(0.3)
    assert second.score == pytest.approx(0.8 * 0.33)


def test_scores_out_of_bounds_are_cut_and_no_bm25_counts_for_nothing() -> None:
    merged = merge([outcome("a", 7, bm25=0.0), outcome("b", -3.5, idx="1", bm25=0.0)], 10)
    assert [(a.answer, a.score) for a in merged] == [("a", 1.0), ("b", 0.0)]


def test_the_same_sentence_in_two_articles_answers_once() -> None:
    twice = [
        outcome("The Children", 0.5, article="A", sentence="Passed on by  the children."),
        outcome("the children", 0.6, article="B", sentence="passed on by the children."),
        outcome("adults", 0.4, article="C", sentence="passed on by the children."),
        outcome("the children", 0.3, article="D", sentence="Another sentence on the children."),
    ]
    assert [a.candidate.article for a in merge(twice, 10)] == ["B", "C", "D"]


def test_empty_answers_are_left_out_but_count_as_answered() -> None:
    empty = [outcome("", 0.9), outcome("  ", 0.9, idx="1")]
    assert merge(empty, 10) == []
    assert coverage(empty).sentences["answered"] == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text",
        b"[]",
        b"null",
        b"{}",
        b'{"answer": 1, "score": 1}',
        b'{"answer": "a", "score": "1"}',
        b'{"answer": "a", "score": true}',
        b'{"answer": "a", "score": NaN}',
        b'{"answer": "a", "score": Infinity}',
        b'{"answer": "a"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_value_that_cannot_be_read_counts_as_failed(raw: bytes) -> None:
    bad = Outcome("x", Candidate("A", "x", "0", "s", 1.0), Status.ANSWERED, raw, 1.0)
    assert parse_answer(bad) is None
    assert merge([bad], 10) == []
    assert coverage([bad]).sentences == {"asked": 1, "answered": 0, "late": 0, "failed": 1}
    assert coverage([bad]).shards["failed"] == ["x"]


def test_coverage_counts_sentences_and_names_shards() -> None:
    several = [
        outcome("a", 1, shard="x"),
        not_answered(Status.LATE, "x"),
        not_answered(Status.LATE, "y"),
        not_answered(Status.BUSY, "z"),
        not_answered(Status.FAILED, "z"),
    ]
    covered = coverage(several, unindexed=["w"])
    assert covered.sentences == {"asked": 5, "answered": 1, "late": 2, "failed": 2}
    assert covered.shards == {
        "asked": ["x", "y", "z"],
        "answered": ["x"],
        "late": ["x", "y"],
        "failed": ["z"],
        "unindexed": ["w"],
    }
