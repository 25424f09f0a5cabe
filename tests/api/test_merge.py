"""Ranking, the same answer from several sentences, the threshold, and the count of what was answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from keymiss.addresses import Address
from keymiss.api.questions.fanout import Outcome, ask_all
from keymiss.api.questions.given_answer import given_answer
from keymiss.api.questions.merge import Answer, bare, coverage, merge, shown
from keymiss.api.questions.sureness import sureness
from keymiss.api.settings import ApiSettings
from keymiss.api.shard_status import Status
from keymiss.cluster.shard_map import ShardMap
from keymiss.cluster.topology import Shard
from keymiss.retrieval import Candidate


def outcome(
    answer: object,
    score: object,
    article: str = "A",
    idx: str = "0",
    sentence: str | None = None,
    rank: float = 1.0,
    shard: str = "x",
    coverage: float = 1.0,
    **more: object,
) -> Outcome:
    text = sentence or f"{article} {idx}"
    candidate = Candidate(article, shard, idx, text, 1.0, score=rank, coverage=coverage)
    value = {"answer": answer, "score": score, **more}
    return Outcome(shard, candidate, Status.ANSWERED, given_answer(json.dumps(value).encode()), 1.0)


def best(outcomes: Iterable[Outcome]) -> list[Answer]:
    return [group.best for group in merge(outcomes)]


class OneShard(ShardMap):
    """A shard that gives the same value for every key."""

    def __init__(self, value: bytes) -> None:
        super().__init__(ApiSettings())
        self.value = value
        self.shards = (Shard(Address("127.0.0.1", 1), "x"),)

    async def execute_at(self, node: Address, key: str, *command: str | bytes | int | float) -> Any:
        return [(0, self.value)] * int(command[1])


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


def not_answered(status: Status, shard: str) -> Outcome:
    return Outcome(shard, Candidate("A", shard, "0", "s", 1.0), status, None, 1.0)


def test_the_best_score_comes_first() -> None:
    merged = best([outcome("a", 0.1), outcome("b", 0.7, idx="1"), outcome("c", 0.05, idx="2")])
    assert [a.answer for a in merged] == ["b", "a", "c"]


def test_equal_scores_go_by_retrieval_then_by_sentence_key() -> None:
    several = [
        outcome("z", 1, article="B"),
        outcome("y", 1, article="A"),
        outcome("x", 1, article="C", rank=2.0),
    ]
    assert [a.answer for a in best(several)] == ["x", "y", "z"]
    assert merge(several) == merge(reversed(several))


def test_a_sentence_far_from_the_question_loses_to_a_near_one() -> None:
    near, far = outcome("right", 0.3), outcome("sure of itself", 0.5, idx="1", coverage=0.3)
    first, second = best([far, near])
    assert first.answer == "right"
    assert first.score == sureness(0.3, near.candidate)
    assert second.score == sureness(0.5, far.candidate)


def test_scores_out_of_bounds_are_cut_and_no_rank_counts_for_nothing() -> None:
    merged = best([outcome("a", 7, rank=0.0), outcome("b", -3.5, idx="1", rank=0.0)])
    assert [(a.answer, a.reader_score) for a in merged] == [("a", 1.0), ("b", 0.0)]


def test_the_same_answer_is_one_result_with_all_its_sources() -> None:
    several = [
        outcome("The Children", 0.5, article="A"),
        outcome("children.", 0.6, article="B"),
        outcome("adults", 0.4, article="C"),
        outcome("infected children", 0.2, article="D"),
        outcome("the  children", 0.3, article="E"),
    ]
    groups = merge(several)
    assert [[m.candidate.article for m in group.members] for group in groups] == [
        ["B", "A", "E"],
        ["C"],
        ["D"],
    ]
    assert groups[0].best.reader_score == 0.6


def test_a_group_is_as_sure_as_its_surest_member() -> None:
    near, far = outcome("yes", 0.3), outcome("yes", 0.5, idx="1", coverage=0.3)
    (group,) = merge([far, near])
    assert group.score == sureness(0.3, near.candidate)
    assert shown([group], group.score) == [group]
    assert shown([group], group.score + 0.01) == []


def test_below_the_threshold_nothing_is_shown_and_zero_shows_all() -> None:
    groups = merge([outcome("a", 0.2), outcome("b", 0.1, idx="1"), outcome("c", 0.0, idx="2")])
    assert [g.best.answer for g in shown(groups, groups[0].score)] == ["a"]
    assert shown(groups, 0.0) == groups


@pytest.mark.parametrize(
    ("answer", "compared_by"),
    [
        ("The Children", "children"),
        ("  the\tchildren. ", "children"),
        ("\u201cA virus\u201d", "virus"),
        ("(the 'test')", "test"),
        ("-5 %", "-5 %"),
        (".5 mm.", ".5 mm"),
        ("<5", "<5"),
        ("children and the adults", "children and the adults"),
        ("2.5 mm", "2.5 mm"),
        ("The", "the"),
        ("an", "an"),
        ("...", "..."),
        ("STRASSE", "strasse"),
        ("Stra\u00dfe", "strasse"),
    ],
)
def test_what_answers_are_compared_by(answer: str, compared_by: str) -> None:
    assert bare(answer) == compared_by
    assert bare(compared_by) == compared_by


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (3, 8, (3, 8)),
        (12, 17, (12, 17)),
        (0, 5, (3, 8)),
        (-15, -10, (3, 8)),
        ("3", 8, (3, 8)),
        (None, None, (3, 8)),
    ],
)
def test_the_place_of_the_answer(start: object, end: object, span: tuple[int, int]) -> None:
    """As the reader says; where that does not fit the sentence, the first place where the answer stands."""
    given = outcome("virus", 0.5, sentence="\U0001f9a0: virus or virus", start=start, end=end)
    (answer,) = best([given])
    assert answer.span == span
    assert given.candidate.sentence[slice(*span)] == "virus"


def test_an_answer_that_is_not_in_the_sentence_has_no_place() -> None:
    (answer,) = best([outcome("virus", 0.5, sentence="changed meanwhile", start=0, end=5)])
    assert answer.span is None


def test_empty_answers_are_left_out_but_count_as_answered() -> None:
    empty = [outcome("", 0.9), outcome("  ", 0.9, idx="1")]
    assert merge(empty) == []
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
async def test_a_value_that_cannot_be_read_counts_as_failed(raw: bytes) -> None:
    (bad,) = await ask_all(OneShard(raw), {"x": [Candidate("A", "x", "0", "s", 1.0)]}, "q", soon())
    assert merge([bad]) == []
    assert coverage([bad]).sentences == {"asked": 1, "answered": 0, "late": 0, "failed": 1, "unread": 0}
    assert coverage([bad]).shards["failed"] == [bad.shard]


def test_coverage_counts_sentences_and_names_shards() -> None:
    several = [
        outcome("a", 1, shard="x"),
        not_answered(Status.LATE, "x"),
        not_answered(Status.LATE, "y"),
        not_answered(Status.BUSY, "z"),
        not_answered(Status.FAILED, "z"),
    ]
    covered = coverage(several, unindexed=["w"])
    assert covered.sentences == {"asked": 5, "answered": 1, "late": 2, "failed": 2, "unread": 0}
    assert covered.shards == {
        "asked": ["x", "y", "z"],
        "answered": ["x"],
        "late": ["x", "y"],
        "failed": ["z"],
        "unindexed": ["w"],
    }
