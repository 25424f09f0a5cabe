"""The question in the address, back and forward, and the list of recent questions."""

from __future__ import annotations

import json
import re
from urllib.parse import quote_plus

from playwright.sync_api import Browser, Page, expect

from tests.page.browser import ask, opened
from tests.page.conftest import Site
from tests.page.filling import QUESTION, READ

NO_STORAGE = """Object.defineProperty(window, "localStorage", {
    get() { throw new DOMException("denied", "SecurityError") },
})"""
OTHER = "zzzz pppp"  # no sentence has such words: nothing fails if it is answered before it is given up


def recent(page: Page) -> list[str]:
    return page.locator(".recent .pick").all_inner_texts()


def test_the_address_holds_the_question(page: Page, site: Site) -> None:
    ask(page, QUESTION)
    expect(page.locator("li.answer").first).to_contain_text(READ[0].answer)
    assert page.url == f"{site.url}/#q={quote_plus(QUESTION)}"
    page.goto("about:blank")
    page.goto(f"{site.url}/#q={quote_plus(QUESTION)}")
    expect(page.locator("li.answer").first).to_contain_text(READ[0].answer)
    expect(page.get_by_role("searchbox")).to_have_value(QUESTION)


def test_a_question_before_the_hash_is_taken_too(page: Page, site: Site) -> None:
    """And does not stay in what is sent to the server."""
    page.goto(f"{site.url}/?q={quote_plus(QUESTION)}&from=2019&to=2019")
    expect(page.locator("li.answer")).to_have_count(1)
    assert page.url == f"{site.url}/#q={quote_plus(QUESTION)}&from=2019&to=2019"


def test_back_and_forward(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(3)
    ask(page, "zzzz qqqq")
    expect(page.locator("#answers-list .notice")).to_be_visible()
    page.go_back()
    expect(page.locator("li.answer")).to_have_count(3)
    expect(page.get_by_role("searchbox")).to_have_value(QUESTION)
    page.go_back()
    expect(page.locator("main")).to_be_hidden()
    page.go_forward()
    expect(page.locator("li.answer")).to_have_count(3)


def test_recent_questions_are_kept_asked_again_and_removed(page: Page, site: Site) -> None:
    ask(page, "zzzz qqqq")
    expect(page.locator("#answers-list .notice")).to_be_visible()
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(3)
    page.goto("about:blank")
    page.goto(site.url)
    assert recent(page) == [QUESTION, "zzzz qqqq"]
    page.get_by_role("button", name="Remove: zzzz qqqq").click()
    assert recent(page) == [QUESTION]
    page.reload()
    assert recent(page) == [QUESTION]
    page.get_by_role("button", name=re.compile(rf"^{re.escape(QUESTION)}$")).click()
    expect(page.locator("li.answer")).to_have_count(3)


def test_only_ten_are_kept_each_once(page: Page) -> None:
    for number in [*range(12), 5]:
        page.evaluate("question => { location.hash = 'q=' + question }", f"qqqq{number}")
        expect(page.get_by_role("searchbox")).to_have_value(f"qqqq{number}")
    assert page.evaluate("JSON.parse(localStorage.getItem('keymiss.recent'))") == [
        f"qqqq{number}" for number in (5, 11, 10, 9, 8, 7, 6, 4, 3, 2)
    ]


def test_without_storage_the_page_works(browser: Browser, site: Site) -> None:
    with opened(browser, site.url) as (page, seen):
        page.add_init_script(NO_STORAGE)
        page.reload()
        ask(page, QUESTION)
        expect(page.locator("li.answer")).to_have_count(3)
        page.get_by_text("Recent questions").click()
        assert recent(page) == [QUESTION]
        assert seen.errors == []


def test_a_new_question_ends_the_one_before(page: Page) -> None:
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/qasearch")) as ended:
        page.evaluate(
            """([first, second]) => {
                location.hash = new URLSearchParams({ q: first });
                dispatchEvent(new HashChangeEvent('hashchange'));
                location.hash = new URLSearchParams({ q: second });
                dispatchEvent(new HashChangeEvent('hashchange'));
            }""",
            [OTHER, QUESTION],
        )
    assert json.loads(ended.value.post_data or "{}")["search"] == OTHER
    expect(page.locator("li.answer")).to_have_count(3)
    expect(page.get_by_role("searchbox")).to_have_value(QUESTION)
