"""The links between concepts: a link's sentences, page by page; a concept is explored."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.page.browser import ask
from tests.page.filling import LINKED, QUESTION, TITLES, YEARS, tags


def node(page: Page, name: str) -> Locator:
    return page.locator("#graph").get_by_role("button", name=re.compile(f"^{name},"))


def names(page: Page) -> set[str]:
    return set(page.locator("#graph .node text").all_text_contents())


def ends(page: Page) -> list[str]:
    return page.locator("#links-list .ends").all_inner_texts()


def pair(one: str, other: str) -> str:
    return f"{one} \N{EN DASH} {other}"


def test_the_question_s_links_as_a_graph_and_as_a_list(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("#links")).to_contain_text("In the question: household.")
    expect(page.locator("#graph .node")).to_have_count(4)
    assert names(page) == {"household", "children", "influenza", "droplet"}
    assert ends(page)[0] == pair("household", "children")
    assert set(ends(page)[1:]) == {pair("influenza", "household"), pair("household", "droplet")}
    expect(page.locator("#links-list button").first).to_contain_text(f"2 sentences, since {YEARS[0]}")
    expect(page.locator(".node.asked")).to_have_attribute(
        "aria-label", "household, 4 sentences, in the question"
    )


def test_nodes_are_larger_the_more_sentences_they_have(page: Page) -> None:
    ask(page, QUESTION)
    radius = {
        name: float(node(page, name).locator(".dot").get_attribute("r") or "nan")
        for name in ("children", "influenza", "household", "droplet")
    }
    assert sorted(radius, key=lambda name: -radius[name]) == ["children", "influenza", "household", "droplet"]


def test_the_same_graph_has_the_same_places(page: Page) -> None:
    places = []
    for _ in range(2):
        page.reload()
        ask(page, QUESTION)
        expect(page.locator("#graph .node")).to_have_count(4)
        places.append(
            page.locator("#graph .node").evaluate_all("all => all.map(e => e.getAttribute('transform'))")
        )
    assert places[0] == places[1]
    assert len(set(places[0])) == 4
    assert all(re.fullmatch(r"translate\(\d+\.\d \d+\.\d\)", place) for place in places[0])


def test_a_click_on_a_link_of_the_list_shows_its_sentences(page: Page) -> None:
    ask(page, QUESTION)
    page.get_by_role("button", name=pair("household", "children")).click()
    panel = page.get_by_role("dialog", name=pair("household", "children"))
    expect(panel).to_contain_text(f"2 sentences with both, the first from {YEARS[0]}.")
    expect(panel.locator(".sentences li")).to_have_count(2)
    titles = panel.locator("cite").all_inner_texts()
    assert sorted(titles) == sorted([TITLES[0], TITLES[1]])
    assert sorted(panel.locator(".sentences .year").all_inner_texts()) == [str(YEARS[0]), str(YEARS[1])]
    assert sorted(panel.locator(".shard").all_inner_texts()) == sorted(f"shard {tag}" for tag in tags()[:2])
    assert panel.locator(".years li").all_inner_texts() == [f"{YEARS[0]}: 1", f"{YEARS[1]}: 1"]
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()


def test_a_click_on_a_line_of_the_graph_does_too(page: Page) -> None:
    ask(page, QUESTION)
    page.locator("[data-link='KT02:KT05'] .touch").click()
    expect(page.get_by_role("dialog", name=pair("household", "droplet"))).to_contain_text(
        "1 sentence with both"
    )


def test_a_click_beside_the_panel_closes_it(page: Page) -> None:
    ask(page, QUESTION)
    page.locator("#links-list button").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.mouse.click(20, 500)
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_concept_is_explored_and_left_again(page: Page) -> None:
    ask(page, QUESTION)
    node(page, "children").click()
    expect(page.locator("#links")).to_contain_text("Exploring children: 3 links.")
    assert names(page) == {"household", "children", "influenza", "droplet", "measles"}
    assert ends(page)[0] == pair("influenza", "children")
    expect(node(page, "children")).to_have_attribute("aria-current", "true")
    expect(page.locator("li.answer")).to_have_count(3)
    node(page, "measles").click()
    expect(page.locator("#links")).to_contain_text("Exploring measles: 1 link.")
    page.go_back()
    expect(page.locator("#links")).to_contain_text("Exploring children: 3 links.")
    page.get_by_role("button", name="Back to the question").click()
    expect(page.locator("#links")).to_contain_text("In the question: household.")
    expect(page.locator("#graph .node")).to_have_count(4)


def test_many_sentences_come_page_by_page(page: Page) -> None:
    ask(page, QUESTION)
    node(page, "children").click()
    page.get_by_role("button", name=pair("influenza", "children")).click()
    panel = page.get_by_role("dialog")
    expect(panel.locator(".sentences li")).to_have_count(10)
    panel.get_by_role("button", name=f"More (10 of {LINKED})").click()
    expect(panel.locator(".sentences li")).to_have_count(LINKED)
    assert len(set(panel.locator("blockquote").all_inner_texts())) == LINKED
    expect(panel.get_by_role("button", name=re.compile("^More"))).to_have_count(0)


def test_a_question_without_a_known_concept_says_so(page: Page) -> None:
    ask(page, "zzzz qqqq")
    expect(page.locator("#links")).to_contain_text("names no known concept")
    expect(page.locator("#graph svg")).to_have_count(0)
