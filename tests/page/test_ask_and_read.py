"""A question is asked; its answers can be read, with all that is known about them."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Page, expect

from tests.page.browser import Seen, ask
from tests.page.filling import HOSTILE, QUESTION, READ, TITLES, YEARS, tags


def test_the_best_answer_is_marked_in_its_sentence(page: Page) -> None:
    ask(page, QUESTION)
    first = page.locator("li.answer").first
    expect(first.get_by_role("heading")).to_have_text(READ[0].answer)
    expect(first.locator("blockquote").first).to_have_text(READ[0].sentence)
    expect(first.locator("mark").first).to_have_text(READ[0].answer)


def test_where_it_comes_from(page: Page) -> None:
    ask(page, QUESTION)
    origin = page.locator("li.answer").first.locator(".origin").first
    expect(origin.locator("cite")).to_have_text(TITLES[0])
    expect(origin.locator(".year")).to_have_text(str(YEARS[0]))
    expect(origin.locator(".shard")).to_have_text(f"shard {tags()[0]}")
    expect(origin.locator(".took")).to_have_text(re.compile(r"^\d+(\.\d)? m?s$"))
    expect(origin.locator(".made")).to_have_text("cached")


def test_the_score_in_percent_and_in_words(page: Page) -> None:
    ask(page, QUESTION)
    scores = page.locator(".score")
    expect(scores.first).to_have_text(re.compile(r"^likely \d\d %$"))
    expect(scores.last).to_have_text(re.compile(r"^unsure \d+ %$"))


def test_other_sources_of_the_same_answer_unfold(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(3)
    first = page.locator("li.answer").first
    other = first.locator(".sources li")
    expect(other).to_be_hidden()
    first.get_by_text("1 more source for this answer").click()
    expect(other.locator("blockquote")).to_have_text(READ[1].sentence)
    expect(other.locator("mark")).to_have_text(READ[1].answer)
    expect(other.locator(".shard")).to_have_text(f"shard {tags()[1]}")


def test_what_was_read_is_said_and_announced(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator(".read")).to_have_text(
        re.compile(r"^Read \d+ sentences on 3 shards in \d+(\.\d)? m?s\.$")
    )
    expect(page.locator("#answers .notice")).to_have_count(0)
    expect(page.locator("#answers")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("status")).to_contain_text(f"3 answers. Best: {READ[0].answer}, ")


def test_markup_in_a_sentence_and_in_a_title_stays_text(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    expect(page.get_by_text(TITLES[2], exact=True)).to_be_visible()
    expect(page.locator("main img, main b")).to_have_count(0)
    assert page.title() == f"{QUESTION} \N{EN DASH} Keymiss"


def test_no_sentence_fits(page: Page) -> None:
    ask(page, "zzzz qqqq")
    expect(page.locator("#answers-list .notice")).to_be_visible()
    expect(page.locator("li.answer")).to_have_count(0)
    message = page.locator("#answers-list .notice p").inner_text()
    assert message
    expect(page.get_by_role("status")).to_have_text(message)


def test_an_empty_question_is_not_asked(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    ask(page, "   ")
    expect(page.locator("#hint")).to_have_text("Type a question first.")
    field = page.get_by_role("searchbox")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(page.locator("main")).to_be_hidden()
    field.press_sequentially("a")
    expect(field).to_have_attribute("aria-invalid", "false")
    assert sent == []


def test_an_example_is_asked(page: Page, seen: Seen) -> None:
    seen.failed_replies_expected = True  # nothing here answers it
    example = page.locator("#examples button").first
    question = example.inner_text()
    with page.expect_request("**/qasearch") as asked:
        example.click()
    assert json.loads(asked.value.post_data or "{}")["search"] == question
    expect(page.get_by_role("searchbox")).to_have_value(question)
