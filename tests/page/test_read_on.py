"""Closest passages; the article behind an answer, at its sentence; shards and milliseconds on demand."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.browser import Seen, ask
from tests.page.conftest import Site
from tests.page.filling import JOURNAL, LINKED, QUESTION, READ, SOURCE, TITLES, YEARS, articles
from tests.page.test_keyboard_only import tab_to


def test_beside_answers_are_passages_close_to_the_question(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(3)
    expect(page.get_by_role("region", name="Passages close to the question")).to_be_visible()
    shown = page.locator("li.answer blockquote").all_inner_texts()
    assert not set(shown) & set(page.locator("li.passage blockquote").all_inner_texts())


def test_without_a_sure_answer_the_closest_passages_are_shown(page: Page) -> None:
    with page.expect_response("**/qasearch"):
        page.route("**/qasearch", lambda route: route.continue_(post_data=_with_threshold(route)))
        ask(page, QUESTION)
    expect(page.locator("#answers-list .notice p")).to_contain_text("No sure answer: ")
    closest = page.get_by_role("region", name="Closest passages")
    expect(closest.locator("li")).to_have_count(5)
    first = closest.locator("li").first
    expect(first.locator("cite a")).to_have_attribute("href", _place(READ[2].shard, READ[2].idx))
    expect(page.get_by_role("status")).to_contain_text("5 closest passages below.")


@pytest.mark.parametrize("min_score", [0.001, 1], ids=["beside answers", "without an answer"])
def test_what_was_not_read_is_read_on_demand(page: Page, min_score: float) -> None:
    asked: list[dict[str, object]] = []

    def reply(route: Route) -> None:
        asked.append(route.request.post_data_json)
        threshold = {} if asked[-1].get("exhaustive") else {"min_score": min_score}
        real = route.fetch(post_data=json.dumps(asked[-1] | threshold))
        body = real.json()
        body["coverage"]["sentences"]["unread"] = 0 if asked[-1].get("exhaustive") else 14
        route.fulfill(response=real, json=body)

    page.route("**/qasearch", reply)
    ask(page, QUESTION)
    page.get_by_role("button", name="Read the 14 other sentences too").click()
    expect(page.locator("#answers")).to_have_attribute("aria-busy", "false")
    expect(page.locator("li.answer")).to_have_count(3)
    expect(page.locator("#answers-list .more")).to_have_count(0)
    expect(page.locator("li.answer").first).to_be_focused()
    assert [one.get("exhaustive") for one in asked] == [None, True]


def _with_threshold(route: Route) -> str:
    body: dict[str, object] = route.request.post_data_json
    return json.dumps(body | {"min_score": 1})


def _place(shard: int, idx: int) -> str:
    return f"/articles/{articles()[shard]}#s{idx}"


def test_an_answer_leads_to_its_sentence_in_the_article(page: Page, site: Site) -> None:
    ask(page, QUESTION)
    link = page.locator("li.answer").first.locator("cite a").first
    expect(link).to_have_text(TITLES[0])
    link.click()
    expect(page.get_by_role("heading", name=TITLES[0])).to_be_visible()
    assert page.url == site.url + _place(0, 0)
    assert page.title() == f"{TITLES[0]} \N{EN DASH} Keymiss"
    wanted = page.locator("[aria-current='true']")
    expect(wanted).to_have_text(READ[0].sentence)
    expect(wanted).to_be_focused()
    expect(wanted).to_be_in_viewport()
    facts = page.locator("#facts")
    expect(facts).to_contain_text(str(YEARS[0]))
    expect(facts).to_contain_text(f"{LINKED + 1} sentences")
    expect(facts).to_contain_text(JOURNAL)
    expect(facts).to_contain_text("Author 5, Author 6 and 2 more")
    expect(facts).not_to_contain_text("KP.json")
    expect(facts.get_by_role("link", name="Source: example.org")).to_have_attribute("href", SOURCE)
    expect(page.locator("#article")).to_have_attribute("aria-busy", "false")
    page.go_back()
    expect(page.locator("li.answer")).to_have_count(3)


def test_another_sentence_of_the_same_article(page: Page, site: Site) -> None:
    page.goto(site.url + _place(1, 1))
    expect(page.locator("[aria-current='true']")).to_have_text(READ[2].sentence)
    expect(page.locator("#text p")).to_have_count(2)
    page.evaluate("location.hash = 's0'")
    expect(page.locator("[aria-current='true']")).to_have_text(READ[1].sentence)
    page.evaluate("location.hash = 's7'")
    expect(page.locator("#state")).to_contain_text("not in the article any more")
    expect(page.locator("[aria-current]")).to_have_count(0)


def test_markup_in_an_article_stays_text(page: Page, site: Site) -> None:
    page.goto(site.url + _place(1, 1))
    expect(page.locator("[aria-current]")).to_contain_text("<img src=x")
    page.goto(site.url + _place(2, 0))
    expect(page.get_by_role("heading", level=1)).to_have_text(TITLES[2])
    expect(page.locator("main img, main b")).to_have_count(0)


def test_an_article_that_is_not_there(page: Page, seen: Seen, site: Site) -> None:
    seen.failed_replies_expected = True
    page.goto(f"{site.url}/articles/KM-none")
    expect(page.locator(".notice.error")).to_contain_text("(404)")
    expect(page.get_by_role("heading", level=1)).to_have_text("KM-none")


def test_shards_and_milliseconds_are_shown_on_demand(page: Page) -> None:
    ask(page, QUESTION)
    first = page.locator("li.answer").first
    expect(first.locator(".year").first).to_be_visible()
    for part in (".shard", ".took", ".made", ".found"):
        expect(first.locator(part).first).to_be_hidden()
    tab_to(page, "#technical")
    page.keyboard.press("Enter")
    expect(page.locator("#technical")).to_have_attribute("aria-pressed", "true")
    for part in (".shard", ".took", ".made", ".found"):
        expect(first.locator(part).first).to_be_visible()
    page.reload()
    expect(page.locator("li.answer").first.locator(".shard").first).to_be_visible()
    page.locator("#technical").click()
    expect(page.locator("li.answer").first.locator(".shard").first).to_be_hidden()
