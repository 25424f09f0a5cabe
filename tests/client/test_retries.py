"""What is repeated, when, and how often."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from keymiss.client import (
    KeymissError,
    Late,
    NotFound,
    Retries,
    TimedOut,
    TooBusy,
    Unavailable,
    Unreachable,
    calls,
)
from keymiss.client.exchange import Send, Wait, exchange
from keymiss.client.retries import retry_after_s
from tests.client.both_clients import AT_ONCE, BOTH, Scripted, ok, problem

by_both = pytest.mark.parametrize("call", BOTH)
ACCEPTED = {
    "article": "KM1",
    "sentences": None,
    "state": "accepted",
    "replaced": True,
    "notes": [],
    "href": "/articles/KM1",
}
DELETED = {"article": "KM1", "state": "deleted"}
READ, ADD, DELETE = ("live",), ("add_article", {"paper_id": "KM1"}), ("delete_article", "KM1")


def good(arguments: tuple[Any, ...]) -> httpx.Response:
    return ok({"live": {"status": "live"}, "add_article": ACCEPTED, "delete_article": DELETED}[arguments[0]])


@by_both
@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_as_long_as_the_reply_says(
    call: Callable[..., Any], status: int, waits: list[float]
) -> None:
    service = Scripted(problem(status, headers={"Retry-After": "3"}), ok())
    assert call(service, "live").status == "live"
    assert len(waits) == 1
    assert 3 <= waits[0] <= 3.25


@by_both
def test_until_a_date(call: Callable[..., Any], waits: list[float]) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    service = Scripted(problem(503, headers={"Retry-After": until}), ok())
    assert call(service, "live").status == "live"
    assert 10 < waits[0] <= 20.25


@by_both
def test_without_a_word_it_waits_longer_each_time_and_not_always_the_same(
    call: Callable[..., Any], waits: list[float]
) -> None:
    retries = Retries(attempts=8, first_wait_s=1, longest_wait_s=8, total_s=1000)
    for _ in range(20):
        call(Scripted(*[problem(429) for _ in range(7)], ok()), "live", client={"retries": retries})
    by_attempt = [waits[attempt::7] for attempt in range(7)]
    for each, longest in zip(by_attempt, (1, 2, 4, 8, 8, 8, 8), strict=True):
        assert longest / 2 < max(each) <= longest
        assert len(set(each)) > 10


@by_both
def test_the_last_error_is_raised_after_so_many_attempts(
    call: Callable[..., Any], waits: list[float]
) -> None:
    service = Scripted(problem(429), problem(503), problem(503, detail="the last"))
    with pytest.raises(Unavailable, match="the last"):
        call(service, "live", client={"retries": Retries(attempts=3)})
    assert (len(service.seen), len(waits)) == (3, 2)


@by_both
def test_one_attempt_is_no_repeat(call: Callable[..., Any], waits: list[float]) -> None:
    service = Scripted(problem(429, headers={"Retry-After": "1"}))
    with pytest.raises(TooBusy) as raised:
        call(service, "live", client={"retries": Retries(attempts=1)})
    assert raised.value.retry_after_s == 1
    assert waits == []


def test_no_attempt_begins_after_the_total_time() -> None:
    now_s = 0.0
    work = exchange(calls.live(), "an-id-of-it", Retries(attempts=99, total_s=10), lambda: now_s)
    step: Send | Wait = next(work)
    attempts = 0
    with contextlib.suppress(TooBusy):
        while True:
            if isinstance(step, Wait):
                now_s += step.s
                step = next(work)
            else:
                attempts, now_s = attempts + 1, now_s + 1
                step = work.send(problem(429, headers={"Retry-After": "2"}))
    assert attempts == 4  # at 0, 3, 6, 9 s and a little
    assert now_s <= 11


@by_both
def test_a_wait_that_would_be_over_the_total_time_is_not_begun(
    call: Callable[..., Any], waits: list[float]
) -> None:
    with pytest.raises(Unavailable):
        call(Scripted(problem(503, headers={"Retry-After": "60"})), "live")
    assert waits == []


@by_both
@pytest.mark.parametrize("arguments", [READ, ADD, DELETE], ids=lambda given: given[0])
@pytest.mark.parametrize(
    ("trouble", "kind", "not_deleting"),
    [
        (problem(429), TooBusy, False),
        (httpx.ConnectError("refused"), Unreachable, False),
        (httpx.ConnectTimeout("slow"), TimedOut, False),
        (problem(503), Unavailable, True),
        (httpx.ReadError("broken"), Unreachable, True),
        (httpx.WriteError("broken"), Unreachable, True),
        (httpx.RemoteProtocolError("closed without a reply"), Unreachable, True),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
@pytest.mark.usefixtures("waits")
def test_what_is_repeated(
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    trouble: httpx.Response | Exception,
    kind: type[KeymissError],
    not_deleting: bool,
) -> None:
    """Deleting twice would end in a 404 that is none: only when it cannot have been begun."""
    service = Scripted(trouble, good(arguments))
    if arguments == DELETE and not_deleting:
        with pytest.raises(kind):
            call(service, *arguments)
        assert len(service.seen) == 1
        return
    assert call(service, *arguments)
    first, second = service.seen
    assert first.content == second.content
    assert first.headers["X-Request-ID"] == second.headers["X-Request-ID"]


@by_both
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (problem(504, headers={"Retry-After": "0"}), Late),
        (problem(404, headers={"Retry-After": "0"}), NotFound),
        (httpx.ReadTimeout("silent"), TimedOut),
        (httpx.WriteTimeout("stuck"), TimedOut),
        (httpx.PoolTimeout("all in use"), TimedOut),
        (httpx.UnsupportedProtocol("gopher"), Unreachable),
        (httpx.DecodingError("no gzip"), KeymissError),
        (ok([]), KeymissError),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_what_is_not_repeated(
    call: Callable[..., Any],
    trouble: httpx.Response | Exception,
    kind: type[KeymissError],
    waits: list[float],
) -> None:
    service = Scripted(trouble)
    with pytest.raises(kind):
        call(service, "live", client={"retries": AT_ONCE})
    assert (len(service.seen), waits) == (1, [])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("  17 ", 17),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("\u0661", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_what_a_reply_may_say(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"total_s": -1}, {"first_wait_s": -1}])
def test_retries_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"attempts|negative"):
        Retries(**wrong)
