"""One table from exceptions to statuses; a 500 says nothing of its cause."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from keymiss.api.http import problems
from keymiss.api.questions.answering import refuse_if_none_answered
from keymiss.api.questions.fanout import Outcome
from keymiss.api.questions.given_answer import GivenAnswer
from keymiss.api.questions.merge import coverage
from keymiss.api.settings import ApiSettings
from keymiss.api.shard_status import Status, status_of
from keymiss.environment import BadSetting
from keymiss.retrieval import Candidate


def client_that_raises(error: Exception) -> TestClient:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def _raise() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("kind", list(problems.TABLE))
def test_every_problem_has_its_status(kind: type[problems.Problem]) -> None:
    reply = client_that_raises(kind("what is wrong", more=[1])).get("/")
    status, title = problems.TABLE[kind]
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    expected = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": "what is wrong",
        "more": [1],
    }
    assert reply.json() == expected


def test_every_problem_is_in_the_table() -> None:
    def below(kind: type[problems.Problem]) -> set[type[problems.Problem]]:
        return {kind} | {k for child in kind.__subclasses__() for k in below(child)}

    assert below(problems.Problem) - {problems.Problem} == set(problems.TABLE)


def test_a_500_does_not_show_its_cause() -> None:
    reply = client_that_raises(RuntimeError("password hunter2")).get("/")
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in reply.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ResponseError("TIMEOUT no answer within 30000 ms"), Status.LATE),
        (TimeoutError(), Status.LATE),
        (ResponseError("BUSY queue full"), Status.BUSY),
        (ResponseError("NOWORKER none"), Status.FAILED),
        (ResponseError("FAILED TIMEOUT in the function's own text"), Status.FAILED),
        (RedisConnectionError("refused"), Status.FAILED),
        (ResponseError(""), Status.FAILED),
    ],
)
def test_the_module_s_error_words(error: Exception, status: Status) -> None:
    assert status_of(error) is status


def outcomes(*statuses: Status) -> list[Outcome]:
    good = GivenAnswer("x", 1.0)
    return [
        Outcome("t", Candidate("A", "t", str(i), "s", 1.0), s, good if s is Status.ANSWERED else None, 1.0)
        for i, s in enumerate(statuses)
    ]


@pytest.mark.parametrize(
    ("statuses", "problem"),
    [
        ([Status.LATE, Status.LATE], problems.AllLate),
        ([Status.LATE, Status.FAILED, Status.BUSY], problems.AllLate),
        ([Status.BUSY, Status.FAILED], problems.TooManyQuestions),
        ([Status.FAILED], problems.NoShardAnswered),
    ],
)
def test_no_answer_at_all(statuses: list[Status], problem: type[problems.Problem]) -> None:
    came = outcomes(*statuses)
    with pytest.raises(problem) as caught:
        refuse_if_none_answered(came, coverage(came))
    assert caught.value.extra["coverage"]["sentences"]["answered"] == 0


def test_one_answer_is_enough() -> None:
    came = outcomes(Status.LATE, Status.ANSWERED)
    refuse_if_none_answered(came, coverage(came))
    refuse_if_none_answered([], coverage([]))


def test_settings_come_from_the_environment() -> None:
    env = {
        "KEYMISS_NODES": "a:1, [::1]:2",
        "KEYMISS_API_TIME_LIMIT_S": "0.5",
        "KEYMISS_API_MAX_QUESTIONS": "3",
    }
    settings = ApiSettings.from_env(env)
    assert (settings.nodes, settings.time_limit_s, settings.max_questions) == ((("a", 1), ("::1", 2)), 0.5, 3)
    assert ApiSettings.from_env({"KEYMISS_BASE_PORT": "7000"}).nodes == (("127.0.0.1", 7000),)


@pytest.mark.parametrize(
    "env",
    [
        {"KEYMISS_API_TIME_LIMIT_S": "soon"},
        {"KEYMISS_API_TIME_LIMIT_S": "0"},
        {"KEYMISS_API_RESULTS": "1.5"},
        {"KEYMISS_API_BODY_TIME_LIMIT_S": "25.5"},
        {"KEYMISS_API_ARTICLE_TIME_LIMIT_S": "71"},
        {"KEYMISS_API_MIN_SCORE": "1.01"},
        {"KEYMISS_API_MIN_SCORE": "-0.1"},
        {"KEYMISS_API_ADMIN_KEY": "short"},
        {"KEYMISS_API_ADMIN_KEY": "sixteen letters\u00fc"},
        {"KEYMISS_API_ADMIN_KEY": "sixteen letters\n"},
        {"KEYMISS_API_ADMIN_KEY": " sixteen letters!"},
        {"KEYMISS_API_TIME_LIMIT_S": "nan"},
        {"KEYMISS_NODES": "host"},
        {"KEYMISS_NODES": "h:99999"},
        {"KEYMISS_NODES": ","},
    ],
)
def test_bad_settings_are_named(env: dict[str, str]) -> None:
    with pytest.raises(BadSetting, match=next(iter(env))) as caught:
        ApiSettings.from_env(env)
    assert "letters" not in str(caught.value), "a key is not shown"


def test_the_least_score_may_be_nothing_and_the_key_too() -> None:
    settings = ApiSettings.from_env({"KEYMISS_API_MIN_SCORE": "0", "KEYMISS_API_ADMIN_KEY": ""})
    assert (settings.min_score, settings.admin_key) == (0.0, "")
