"""Every line of a log is one JSON object, whatever is logged, and carries the request's id."""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from keymiss.logs import JsonHandler, log_event
from keymiss.request_id import current_request_id


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.json")
    handler = JsonHandler()
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger
    logger.removeHandler(handler)


def written(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = capsys.readouterr().err.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_of_logging(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    log.warning('%d times "this"\nand that', 2)
    line = written(capsys)
    assert isinstance(line.pop("t"), float)
    assert line == {
        "level": "warning",
        "event": "log",
        "logger": "tests.json",
        "message": '2 times "this"\nand that',
    }


def test_an_exception_is_one_line_too(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("several\nlines")
    except ValueError:
        log.exception("it failed")
    line = written(capsys)
    assert (line["level"], line["message"]) == ("error", "it failed")
    assert line["traceback"].startswith("Traceback")
    assert "ValueError: several\nlines" in line["traceback"]


def test_the_request_s_id_is_in_both_sorts(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    def handled() -> None:
        current_request_id.set("request-1")
        log.info("by logging")
        assert written(capsys)["request_id"] == "request-1"
        log_event("by_event", number=1)
        assert written(capsys)["request_id"] == "request-1"

    contextvars.Context().run(handled)
    log_event("afterwards")
    assert "request_id" not in written(capsys)
