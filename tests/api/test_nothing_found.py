"""What is not sure enough is not shown, and the reply says so; paging of what is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.keys import sentence_key, span_key
from tests.api.processes import ApiProcess, article_with_title_on, pause, resume, shard_tags
from tests.patience import patient, slower
from tests.servers import RedisClusterServers

SURE, UNSURE, EMPTY = "Which virus is sure", "Which virus is unsure", "Which virus is empty"
SURE_SCORES = dict(zip(shard_tags(2), (0.9, 0.89), strict=True))
SENTENCES = {str(i): f"Virus number {i} is described here in words." for i in range(5)}


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    """Every shard has the same five sentences; three questions: answered surely, unsurely, with nothing."""
    with RedisClusterServers(masters=2) as running:
        with running.client() as client:
            for tag in shard_tags(2):
                article = article_with_title_on(tag, 2)
                client.hset(sentence_key(article, tag), mapping=SENTENCES)
                for idx, sentence in SENTENCES.items():
                    answers = {SURE: ("words" if idx == "4" else f"number {idx}", SURE_SCORES[tag])}
                    answers |= {UNSURE: (f"number {idx}", 0.12), EMPTY: ("", 0.9)}
                    for question, (answer, score) in answers.items():
                        start = sentence.find(answer)
                        value = {"answer": answer, "score": score, "start": start, "end": start + len(answer)}
                        key = span_key(article, tag, idx, question_in_key(question))
                        client.set(key, json.dumps(value))
        yield running


@pytest.fixture(scope="module")
def api(servers: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {
        "KEYMISS_API_TIME_LIMIT_S": str(slower(1)),
        "KEYMISS_API_MIN_SCORE": "0.15",
        "KEYMISS_API_VECTOR_WEIGHT": "0",  # nothing makes any: the message would say so
    }
    with ApiProcess(servers.addresses, wait_indexed=2, env=env) as running:
        yield running


def ask(api: ApiProcess, question: str, **more: object) -> dict[str, Any]:
    reply = httpx.post(f"{api.url}/qasearch", json={"search": question, **more}, timeout=patient(30))
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def test_the_same_answer_of_both_shards_is_one_result(api: ApiProcess) -> None:
    body = ask(api, SURE)
    assert body["found"] is True
    assert body["message"] is None
    assert body["total"] == len(body["results"]) == 5
    for result in body["results"]:
        scores = [source["score"] for source in result["sources"]]
        assert scores == sorted(scores, reverse=True)
        assert {source["shard"]: source["reader_score"] for source in result["sources"]} == SURE_SCORES
        assert {key: result[key] for key in result["sources"][0]} == result["sources"][0]
        assert result["sentence"][result["start"] : result["end"]] == result["answer"]


def test_limit_and_offset(api: ApiProcess) -> None:
    whole = [result["answer"] for result in ask(api, SURE)["results"]]
    pages = [ask(api, SURE, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [answer for page in pages for answer in (r["answer"] for r in page["results"])] == whole
    assert [len(page["results"]) for page in pages] == [2, 2, 1, 0]
    assert {(page["total"], page["limit"], page["found"]) for page in pages} == {(5, 2, True)}
    assert {page["score"] for page in pages} == {pages[0]["results"][0]["score"]}


@pytest.mark.parametrize(
    "more", [{"limit": 0}, {"limit": 101}, {"limit": "5"}, {"limit": True}, {"offset": -1}]
)
def test_bad_limits_are_422(api: ApiProcess, more: dict[str, object]) -> None:
    reply = httpx.post(f"{api.url}/qasearch", json={"search": SURE, **more})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == next(iter(more))


def test_unsure_answers_are_not_shown(api: ApiProcess) -> None:
    body = ask(api, UNSURE)
    assert (body["found"], body["results"], body["score"], body["total"]) == (False, [], None, 0)
    assert re.fullmatch(
        r"No sure answer: 10 sentences were read on 2 shards, "
        r"and the best answer's probability, 0\.0\d+, is below 0\.15\.",
        body["message"],
    )


def test_no_answer_and_no_sentence(api: ApiProcess) -> None:
    assert ask(api, EMPTY)["message"] == (
        "No sure answer: 10 sentences were read on 2 shards, and none holds an answer."
    )
    nothing = ask(api, "zzz qqq")
    assert nothing["found"] is False
    assert nothing["message"] == "Nothing was found: no sentence has to do with the question's words."


def test_a_late_shard_is_named(api: ApiProcess, servers: RedisClusterServers) -> None:
    pause(servers.masters[1])
    try:
        body = ask(api, UNSURE)
    finally:
        resume(servers.masters[1])
        servers.wait_ok()
    assert body["found"] is False
    assert "5 sentences were read on 1 shard," in body["message"]
    assert f"5 sentences did not answer in time (shards {shard_tags(2)[1]})." in body["message"]


def test_zero_shows_everything(servers: RedisClusterServers) -> None:
    with ApiProcess(servers.addresses, wait_indexed=2, env={"KEYMISS_API_MIN_SCORE": "0"}) as running:
        assert ask(running, UNSURE)["total"] == 5
