"""A phone of 360 x 740: nothing overflows, everything can be touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.browser import ask, opened
from tests.page.conftest import Site
from tests.page.filling import QUESTION, READ

WIDTH = 360
TOUCH_PX = 44
TOO_SMALL = """least => [...document.querySelectorAll('button, summary, input, a, .node .touch')]
    .filter(e => e.checkVisibility() && !e.classList.contains('skip'))
    .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
    .filter(([, box]) => box.width < least || box.height < least)
    .map(([html, box]) => `${html} ${box.width} x ${box.height}`)"""

OUTSIDE = """() => {
    const {left, right, top, bottom} = document.querySelector('#graph svg').getBoundingClientRect();
    const drawn = [...document.querySelectorAll('#graph .node .dot, #graph .node text')];
    const isIn = box => left <= box.left && box.left < box.right && box.right <= right
        && top <= box.top && box.top < box.bottom && box.bottom <= bottom;
    return [drawn.length, drawn.filter(e => !isIn(e.getBoundingClientRect())).map(e => e.outerHTML)];
}"""
"""How many circles and labels of the graph there are, and those that are not in its picture."""


@pytest.fixture
def phone(browser: Browser, site: Site) -> Iterator[Page]:
    shape = {"viewport": {"width": WIDTH, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, site.url, device_scale_factor=2, **shape) as (page, seen):
        yield page
        assert seen.errors == []
        assert seen.elsewhere == []


def check(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTH
    assert page.evaluate(TOO_SMALL, TOUCH_PX) == []


def test_the_start_page(phone: Page) -> None:
    expect(phone.get_by_role("searchbox")).to_be_visible()
    check(phone)


def test_answers_sources_links_and_recent_questions(phone: Page) -> None:
    ask(phone, QUESTION)
    expect(phone.locator("li.answer").first).to_contain_text(READ[0].answer)
    expect(phone.locator("#graph .node")).to_have_count(4)
    check(phone)
    phone.get_by_text("1 more source for this answer").tap()
    phone.get_by_text("Recent questions").tap()
    expect(phone.locator(".recent .pick")).to_be_visible()
    check(phone)


def test_the_graph_stays_in_its_picture(phone: Page) -> None:
    ask(phone, QUESTION)
    expect(phone.locator("li.answer").first).to_be_visible()  # answers push the picture down
    expect(phone.locator("#graph .node")).to_have_count(4)
    measured, outside = phone.evaluate(OUTSIDE)
    assert measured == 2 * 4
    assert outside == []


def test_the_panel(phone: Page) -> None:
    ask(phone, QUESTION)
    phone.locator("#links-list button").first.tap()
    expect(phone.get_by_role("dialog").locator(".sentences li")).to_have_count(2)
    check(phone)


def test_a_word_that_is_too_long_is_broken(phone: Page) -> None:
    ask(phone, "w" * 300)
    expect(phone.locator("#answers-list .notice")).to_be_visible()
    phone.get_by_text("Recent questions").tap()
    check(phone)


def test_a_narrower_window_draws_the_graph_anew(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("#graph .node")).to_have_count(4)
    page.set_viewport_size({"width": WIDTH, "height": 740})
    expect(page.locator("#graph svg")).to_have_attribute("viewBox", f"0 0 {WIDTH - 32 - 2} 220")
    check(page)
