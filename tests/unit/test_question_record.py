"""How a question ended, by what was raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from keymiss.api.http import problems
from keymiss.api.http.disconnect import ClientLeft
from keymiss.api.metrics import ApiMetrics, Ended
from keymiss.api.questions.record import recorded


def counted(metrics: ApiMetrics) -> dict[str, float]:
    found = {
        outcome.value: metrics.registry.get_sample_value("keymiss_questions_total", {"outcome": outcome})
        for outcome in Ended
    }
    assert None not in found.values(), "known outcomes are there from the start"
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize(
    ("error", "outcome", "level"),
    [
        (problems.NotJson("x"), "refused", "info"),
        (problems.BodyTooLarge("x"), "refused", "info"),
        (problems.BadQuestion("x"), "refused", "info"),
        (problems.TooManyQuestions("x"), "busy", "info"),
        (problems.NoShardAnswered("x"), "failed", "warning"),
        (problems.AllLate("x"), "late", "warning"),
        (ClientLeft(), "left", "info"),
        (ClientDisconnect(), "left", "info"),
        (RuntimeError("who knows"), "error", "warning"),
    ],
)
def test_what_is_raised(
    error: Exception, outcome: str, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = ApiMetrics()
    in_flight: list[float | None] = []

    def work() -> None:
        with recorded(metrics):
            in_flight.append(metrics.registry.get_sample_value("keymiss_questions_in_flight"))
            raise error

    with pytest.raises(type(error)):
        work()
    assert in_flight == [1]
    assert counted(metrics) == {outcome: 1}
    assert metrics.registry.get_sample_value("keymiss_questions_in_flight") == 0
    assert metrics.registry.get_sample_value("keymiss_question_duration_seconds_count") == 0
    line: dict[str, Any] = json.loads(capsys.readouterr().err)
    assert (line["event"], line["outcome"], line["level"]) == ("question", outcome, level)


@pytest.mark.parametrize(("found", "outcome"), [(True, "answered"), (False, "nothing_found")])
def test_a_reply(found: bool, outcome: str) -> None:
    metrics = ApiMetrics()
    for partial in (True, False):
        with recorded(metrics) as record:
            record.replied(found, partial)
    assert counted(metrics) == {outcome: 2}
    assert metrics.registry.get_sample_value("keymiss_questions_partial_total") == 1
    assert metrics.registry.get_sample_value("keymiss_question_duration_seconds_count") == 2


def test_two_applications_count_for_themselves() -> None:
    one, other = ApiMetrics(), ApiMetrics()
    one.request_ended("/livez", "GET", 200, 0.001)
    labels = {"route": "/livez", "method": "GET", "code": "200"}
    assert one.registry.get_sample_value("keymiss_http_requests_total", labels) == 1
    assert other.registry.get_sample_value("keymiss_http_requests_total", labels) is None


def test_an_unheard_of_method_or_path_makes_no_new_label() -> None:
    metrics = ApiMetrics()
    for number in range(3):
        metrics.request_ended(None, f"METHOD{number}", 404, 0.001)
    labels = {"route": "other", "method": "other", "code": "404"}
    assert metrics.registry.get_sample_value("keymiss_http_requests_total", labels) == 3
