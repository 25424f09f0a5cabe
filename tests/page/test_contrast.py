"""Text stands out from its ground by 4.5 to 1 (WCAG 2.1 AA), in the light and in the dark."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.browser import ask, opened
from tests.page.conftest import Site
from tests.page.filling import QUESTION, UNANSWERED

LEAST = 4.5
TOO_FAINT = """least => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const light = text => {
        const [r, g, b] = parse(text).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if ((parse(colour)[3] ?? 1) > 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const faint = [];
    let looked = 0;
    for (const e of document.querySelectorAll('body *')) {
        const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!own || !e.checkVisibility() || e.matches('title, button:disabled')) continue;
        const style = getComputedStyle(e);
        const colours = [e.matches('text') ? style.fill : style.color, ground(e)];
        const [high, low] = colours.map(light).sort((x, y) => y - x);
        const ratio = (high + 0.05) / (low + 0.05);
        looked += 1;
        if (ratio < least) faint.push(`${e.outerHTML.slice(0, 80)} ${ratio}`);
    }
    return [looked, faint];
}"""


def check(page: Page) -> None:
    looked, faint = page.evaluate(TOO_FAINT, LEAST)
    assert looked >= 5
    assert faint == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Browser, site: Site, scheme: str) -> None:
    with opened(browser, site.url, color_scheme=scheme, viewport={"width": 1280, "height": 900}) as (page, _):
        check(page)
        ask(page, "   ")
        expect(page.locator("#hint")).to_have_text("Type a question first.")
        check(page)
        ask(page, QUESTION)
        expect(page.locator("li.answer")).to_have_count(3)
        expect(page.locator("#graph .node")).to_have_count(4)
        page.get_by_text("1 more source for this answer").click()
        page.get_by_text("Recent questions").click()
        check(page)
        page.locator("#links-list button").first.click()
        expect(page.get_by_role("dialog").locator(".sentences li")).to_have_count(2)
        check(page)
        page.keyboard.press("Escape")
        ask(page, UNANSWERED)
        expect(page.locator("#answers .notice.error")).to_be_visible()
        check(page)
