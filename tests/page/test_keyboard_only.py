"""Everything without a mouse: ask, reach a link, read it, close it, walk the graph, explore."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.page.browser import ask
from tests.page.filling import QUESTION, READ

MOST_TABS = 40
FOCUSED = "document.activeElement.%s"


def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until an element of `selector` has the focus; every stop on the way shows its focus."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.count() == 1, "the focus left the page"
        drawn = focused.evaluate(
            "e => [e, e.querySelector('.halo')].some(x => x && (getComputedStyle(x).outlineStyle !== 'none'"
            " || getComputedStyle(x).stroke !== 'none'))"
        )
        assert drawn, focused.evaluate("e => e.outerHTML")
        if focused.evaluate("(e, selector) => e.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} was not reached with {MOST_TABS} tabs")


def test_ask_read_a_link_and_close_it(page: Page) -> None:
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("li.answer").first).to_contain_text(READ[0].answer)
    expect(page.locator("#links-list button")).to_have_count(3)
    tab_to(page, "#links-list button")
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog")
    expect(panel.locator(".sentences li")).to_have_count(2)
    assert panel.evaluate("e => e.contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator("#links-list button").first).to_be_focused()


def test_other_sources_unfold(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(3)
    tab_to(page, ".sources summary")
    page.keyboard.press("Enter")
    expect(page.locator(".sources li").first).to_be_visible()


def test_arrow_keys_walk_the_graph_and_enter_explores(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("#graph .node")).to_have_count(4)
    tab_to(page, ".node")
    reached = {page.evaluate(FOCUSED % "dataset.id")}
    for _ in range(3):
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            page.keyboard.press(key)
            reached.add(page.evaluate(FOCUSED % "dataset.id"))
    assert len(reached) >= 3
    expect(page.locator(".node[tabindex='0']")).to_have_count(1)
    explored = page.evaluate(FOCUSED % "dataset.id")
    page.keyboard.press("Enter")
    expect(page.locator(f".node.explored[data-id='{explored}']")).to_be_focused()
    tab_to(page, "#links-list button")


def test_an_arrow_goes_the_way_it_points(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("#graph .node")).to_have_count(4)
    tab_to(page, ".node")
    sides = {"ArrowLeft": ("x", -1), "ArrowRight": ("x", 1), "ArrowUp": ("y", -1), "ArrowDown": ("y", 1)}
    moved = 0
    for key, (axis, sign) in sides.items():
        before = page.evaluate(FOCUSED % "getBoundingClientRect()." + axis)
        name = page.evaluate(FOCUSED % "dataset.id")
        page.keyboard.press(key)
        if page.evaluate(FOCUSED % "dataset.id") != name:
            moved += 1
            after = page.evaluate(FOCUSED % "getBoundingClientRect()." + axis)
            assert (after - before) * sign > -30, key  # boxes of labels differ in size; centres are compared
    assert moved >= 2


def test_a_slash_comes_back_to_the_field(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(3)
    tab_to(page, ".sources summary")
    page.keyboard.press("/")
    field = page.get_by_role("searchbox")
    expect(field).to_be_focused()
    page.keyboard.type("and/or")
    expect(field).to_have_value("and/or")


def test_the_skip_link_leads_to_the_answers(page: Page) -> None:
    ask(page, QUESTION)
    expect(page.locator("li.answer")).to_have_count(3)
    address = page.url
    page.locator("#skip").focus()
    expect(page.locator("#skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#answers")).to_be_focused()
    assert page.url == address
