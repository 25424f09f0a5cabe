"""What the page says when something fails, and that its button tries again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from playwright.sync_api import Browser, Page, expect

from keymiss.client import Refused, TooBusy
from tests.api.processes import ApiProcess, NginxProcess, pause, resume
from tests.page.browser import Seen, ask, opened
from tests.page.conftest import Site
from tests.page.filling import MASTERS, QUESTION, READ, UNANSWERED, tags
from tests.patience import slower
from tests.servers import wait_until


@pytest.fixture(autouse=True)
def failed_replies_are_expected(seen: Seen) -> None:
    seen.failed_replies_expected = True


def covered(site: Site) -> bool:
    """Whether every shard's sentences are read again."""
    shards = site.api.ask(QUESTION).coverage.shards
    return len(shards.answered) == MASTERS and not shards.late + shards.failed + shards.unindexed


def test_an_api_that_is_away_and_comes_back(page: Page, site: Site) -> None:
    assert site.api.terminate() == 0
    try:
        ask(page, QUESTION)
        failure = page.locator("#answers .notice.error")
        expect(failure).to_contain_text("The API is not running (503)")
        expect(failure).to_contain_text("nginx could not reach the API.")
        expect(page.locator("#links .notice.error")).to_contain_text("(503)")
        expect(page.locator("#answers")).to_have_attribute("aria-busy", "false")
        expect(page.get_by_role("status")).to_contain_text("The API is not running")
    finally:
        site.api.start()
    wait_until(lambda: covered(site), 20, "the API has read every shard")
    failure.get_by_role("button", name="Try again").click()
    expect(page.locator("li.answer").first).to_contain_text(READ[0].answer)
    expect(failure).to_have_count(0)
    page.locator("#links .notice.error").get_by_role("button", name="Try again").click()
    expect(page.locator("#graph .node")).to_have_count(4)


def test_a_network_that_is_down(page: Page) -> None:
    page.context.set_offline(True)
    ask(page, QUESTION)
    failure = page.locator("#answers .notice.error")
    expect(failure).to_contain_text("No connection")
    page.context.set_offline(False)
    failure.get_by_role("button", name="Try again").click()
    expect(page.locator("li.answer").first).to_contain_text(READ[0].answer)


def test_a_question_that_no_shard_can_answer(page: Page) -> None:
    ask(page, UNANSWERED)
    failure = page.locator("#answers .notice.error")
    expect(failure).to_contain_text("No shard could answer (503)")
    expect(failure).to_contain_text("sentences were asked on")


@pytest.fixture
def busy(site: Site) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a site whose API takes one question at a time, and what makes somebody's question wait
    there: for a shard that is silent, until the API knows that it is."""
    env = {
        "KEYMISS_API_MAX_QUESTIONS": "1",
        "KEYMISS_API_TIME_LIMIT_S": str(slower(5)),
        "KEYMISS_API_MIN_SCORE": "0.05",
    }
    with (
        ApiProcess(site.cluster.addresses, wait_indexed=MASTERS, env=env) as api,
        NginxProcess(api.port) as nginx,
        ThreadPoolExecutor(1) as pool,
    ):
        left = threading.Event()
        asking: list[Future[None]] = []

        def keep_asking() -> None:
            while not left.is_set():
                with contextlib.suppress(Refused):
                    api.ask(QUESTION)

        def is_busy() -> bool:
            try:
                api.ask(QUESTION)
            except TooBusy:
                return True
            return False

        def somebody_asks() -> None:
            pause(site.cluster.masters[2])
            asking.append(pool.submit(keep_asking))
            wait_until(is_busy, 30, "the API is busy")

        try:
            yield nginx.url, somebody_asks
        finally:
            left.set()
            resume(site.cluster.masters[2])
            for one in asking:
                one.result()


def test_too_many_questions(browser: Browser, busy: tuple[str, Callable[[], None]]) -> None:
    """429 with Retry-After: the button waits for as long as was said."""
    url, somebody_asks = busy
    with opened(browser, url) as (page, _):
        failure = page.locator("#answers .notice.error")

        def is_refused() -> bool:
            ask(page, QUESTION)
            expect(page.locator("#answers")).to_have_attribute("aria-busy", "false")
            return failure.is_visible()

        somebody_asks()
        wait_until(is_refused, 30, "the question comes while the other one is answered")
        expect(failure).to_contain_text("Too many questions at once (429)")
        again = failure.get_by_role("button")
        expect(again).to_be_disabled()
        expect(again).to_have_text("Try again in 1 s")
        expect(again).to_be_enabled()
        expect(again).to_have_text("Try again")


def test_a_link_s_sentences_that_cannot_be_read(page: Page, site: Site) -> None:
    ask(page, QUESTION)
    expect(page.locator("#links-list button")).to_have_count(3)
    assert site.api.terminate() == 0
    try:
        page.locator("#links-list button").first.click()
        panel = page.get_by_role("dialog")
        expect(panel.locator(".notice.error")).to_contain_text("(503)")
    finally:
        site.api.start()
    wait_until(lambda: covered(site), 20, "the API has read every shard")
    panel.get_by_role("button", name="Try again").click()
    expect(panel.locator(".sentences li")).to_have_count(2)


def test_a_slow_shard(page: Page, site: Site) -> None:
    """After a while the page says what it waits for; then shows the others' answers and what is missing."""
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(MASTERS)
    slow = tags()[2]
    pause(site.cluster.masters[2])
    try:
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator("#answers")).to_have_attribute("aria-busy", "true")
        expect(page.locator(".waiting")).to_have_text("Asking the shards…")
        expect(page.locator(".waiting")).to_contain_text(f"Still waiting for one of the shards {tags()[0]}, ")
        expect(page.get_by_role("status")).to_contain_text("Still waiting")
        notice = page.locator("#answers-state .notice")
        expect(notice).to_contain_text(f"Shard {slow} was late: 1 sentence could not be read in time.")
        expect(page.locator("li.answer")).to_have_count(MASTERS - 1)
        expect(page.locator(".read")).to_contain_text("on 2 shards")
        expect(page.locator("#links")).to_contain_text(f"missing: {slow}")
    finally:
        resume(site.cluster.masters[2])
    site.cluster.wait_ok()
    wait_until(lambda: covered(site), 20, "all shards answer again")
    notice.get_by_role("button", name="Ask again").click()
    expect(page.locator("li.answer")).to_have_count(MASTERS)
    expect(notice).to_have_count(0)
