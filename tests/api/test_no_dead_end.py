"""Closest passages, a threshold of one's own, years and articles; one cache entry for one question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.api.questions.reply_members import PASSAGES
from keymiss.client import Answers, BadRequest
from keymiss.keys import article_key, sentence_key, span_key, state_key
from tests.api.processes import ApiProcess, article_with_title_on, shard_tags
from tests.servers import RedisClusterServers

QUESTION = "Which virus is described here?"
FIRST, SECOND = shard_tags(2)
ARTICLES = {tag: article_with_title_on(tag, 2) for tag in (FIRST, SECOND)}
YEARS = {FIRST: 2019, SECOND: 2021}
SCORES = (0.6, 0.12, 0.0)
"""Of the answers in each article's sentences; the others hold none."""
SENTENCES = 4


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=2) as running:
        with running.client() as client:
            for tag, article in ARTICLES.items():
                year = YEARS[tag]
                client.hset(article_key(article), mapping={"title": f"On {year}", "year": year})
                client.hset(state_key(article, tag), mapping={"year": year})
                for idx in range(SENTENCES):
                    sentence = f"Virus {idx} of {year} is described here" + " at length" * idx
                    client.hset(sentence_key(article, tag), str(idx), sentence)
                    score = SCORES[idx] if idx < len(SCORES) else 0.0
                    value = {"answer": f"Virus {idx} of {year}" if score else "", "score": score}
                    key = span_key(article, tag, idx, question_in_key(QUESTION))
                    client.set(key, json.dumps(value))
        yield running


@pytest.fixture(scope="module")
def api(servers: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {"KEYMISS_API_MIN_SCORE": "0.6", "KEYMISS_API_VECTOR_WEIGHT": "0"}
    with ApiProcess(servers.addresses, wait_indexed=2, env=env) as running:
        yield running


def ask(api: ApiProcess, question: str = QUESTION, **more: Any) -> Answers:
    with api.client() as client:
        return client.ask(question, **more)


def answers(reply: Answers) -> list[str]:
    return [result.answer for result in reply.results]


def test_without_a_sure_answer_there_are_the_closest_passages(api: ApiProcess) -> None:
    reply = ask(api, min_score=0.9)
    assert (reply.found, reply.results) == (False, ())
    assert reply.message == (
        "No sure answer: 8 sentences were read on 2 shards, "
        "and the best answer's probability, 0.89, is below 0.9."
    )
    assert len(reply.closest) == PASSAGES
    scores = [passage.retrieval_score for passage in reply.closest]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1
    best = reply.closest[0]
    assert best.sentence.startswith("Virus 0 of")
    assert best.sentencekey.startswith(f"sentence:{best.article}:")
    assert (best.title, best.found_by) == (f"On {best.year}", ("bm25",))
    assert best.bm25 > 0


def test_beside_answers_are_the_passages_that_gave_none(api: ApiProcess) -> None:
    reply = ask(api, limit=1)
    assert reply.found
    assert reply.total == 2
    sure = {source.sentencekey for result in ask(api).results for source in result.sources}
    assert len(sure) == 2
    assert len(reply.closest) == PASSAGES
    assert not sure & {passage.sentencekey for passage in reply.closest}


def test_a_threshold_of_one_s_own(api: ApiProcess) -> None:
    assert len(answers(ask(api))) == 2
    assert len(answers(ask(api, min_score=0.1))) == 4
    assert len(answers(ask(api, min_score=0))) == 4
    assert not ask(api, min_score=1).found


def test_years(api: ApiProcess) -> None:
    assert answers(ask(api, years=(2020, None))) == ["Virus 0 of 2021"]
    assert answers(ask(api, years=(None, 2020))) == ["Virus 0 of 2019"]
    assert len(answers(ask(api, years=(2019, 2021)))) == 2
    within = ask(api, years=(2021, 2021), min_score=0.9)
    assert {passage.year for passage in within.closest} == {2021}
    assert within.message is not None
    assert within.message.startswith("No sure answer: 4 sentences of 2021 were read on 1 shard, and ")


def test_articles(api: ApiProcess) -> None:
    assert answers(ask(api, articles=[ARTICLES[FIRST], "KM-none"])) == ["Virus 0 of 2019"]
    assert answers(ask(api, articles=[ARTICLES[FIRST]], years=(2020, None))) == []


@pytest.mark.parametrize(
    ("only", "where"),
    [
        ({"years": (2030, None)}, "of 2030 or later"),
        ({"years": (None, 1990)}, "of 1990 or earlier"),
        ({"years": (1990, 1995), "articles": ["B", "A"]}, "of 1990 to 1995 in A, B"),
        ({"articles": "KM-none"}, "in KM-none"),
    ],
)
def test_a_filter_that_takes_nothing_says_so(api: ApiProcess, only: dict[str, Any], where: str) -> None:
    reply = ask(api, **only)
    assert (reply.found, reply.closest) == (False, ())
    assert reply.message == f"Nothing was found: there is no sentence {where}."


def test_a_filter_that_takes_something_else(api: ApiProcess) -> None:
    reply = ask(api, "zzz", years=(2019, 2019))
    assert reply.message == "Nothing was found: no sentence of 2019 has to do with the question's words."
    assert reply.closest == ()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("min_score", -0.1),
        ("min_score", 1.1),
        ("min_score", "0.5"),
        ("years", {}),
        ("years", {"from": 2021, "to": 2019}),
        ("years", {"from": 0}),
        ("years", {"to": 10_000}),
        ("years", {"from": "2019"}),
        ("years", {"first": 2019}),
        ("years", "2019-2021"),
        ("articles", []),
        ("articles", "KM0001"),
        ("articles", ["under_score"]),
        ("articles", [""]),
        ("articles", ["A"] * 101),
    ],
)
def test_what_cannot_be_used_is_422(api: ApiProcess, member: str, value: object) -> None:
    reply = httpx.post(f"{api.url}/qasearch", json={"search": QUESTION, member: value})
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["field"].startswith(member)


def test_no_article_at_all_is_not_every_article(api: ApiProcess) -> None:
    with pytest.raises(BadRequest):
        ask(api, articles=[])


@pytest.mark.parametrize(
    "asked", [QUESTION.upper(), QUESTION.rstrip("?"), "which  virus is\tDescribed here ? "]
)
def test_one_cache_entry_and_the_question_as_it_was_asked(api: ApiProcess, asked: str) -> None:
    """The answers lie under one form of the question; without a worker no other could be answered."""
    reply = ask(api, asked)
    assert reply.question == " ".join(asked.split())
    assert answers(reply) == answers(ask(api))
    assert all(result.cached for result in reply.results)
