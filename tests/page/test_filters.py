"""Years and articles that are searched: typed in, in the address, cleared; what is wrong with them."""

from __future__ import annotations

import json

from playwright.sync_api import Page, expect

from tests.page.browser import ask
from tests.page.filling import QUESTION, READ, articles


def fill(page: Page, start: str = "", end: str = "", names: str = "") -> None:
    if not page.get_by_label("From").is_visible():
        page.locator("#filters summary").click()
    page.get_by_label("From").fill(start)
    page.get_by_label("To", exact=True).fill(end)
    page.get_by_label("Articles, by their ids").fill(names)


def test_years_narrow_the_answers(page: Page) -> None:
    fill(page, "2020", "2020")
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(2)
    expect(page.locator("li.answer .year").first).to_have_text("2020")
    expect(page.locator("#filters summary")).to_have_text("Only 2020")
    assert page.url.endswith("&from=2020&to=2020")
    page.go_back()
    page.go_forward()
    expect(page.locator("li.answer")).to_have_count(2)


def test_articles_are_sent_as_ids(page: Page) -> None:
    one, _, other = articles()
    fill(page, names=f" {one},{other} {one}")
    with page.expect_request("**/qasearch") as asked:
        ask(page, QUESTION)
    assert json.loads(asked.value.post_data or "{}") == {
        "search": QUESTION,
        "articles": [one, other],
        "offset": 0,
    }
    expect(page.locator("li.answer")).to_have_count(2)


def test_a_filter_that_takes_nothing_says_so_and_can_be_cleared(page: Page) -> None:
    fill(page, start="2030")
    ask(page, QUESTION)
    message = "Nothing was found: there is no sentence of 2030 or later."
    expect(page.locator("#answers-list .notice p")).to_have_text(message)
    expect(page.locator("#filters summary")).to_have_text("Only 2030 or later")
    page.get_by_role("button", name="Clear").click()
    ask(page, QUESTION)
    expect(page.locator("li.answer").first).to_contain_text(READ[0].answer)
    assert "from" not in page.url


def test_a_year_that_is_none_is_not_asked(page: Page) -> None:
    fill(page, start="soon")
    ask(page, QUESTION)
    expect(page.locator("#hint")).to_have_text("A year is a number from 1 to 9999.")
    expect(page.get_by_label("From")).to_be_focused()
    expect(page.locator("main")).to_be_hidden()
    fill(page, start="2021", end="2019")
    ask(page, QUESTION)
    expect(page.locator("#hint")).to_have_text("The first year is after the last.")
    expect(page.locator("main")).to_be_hidden()
