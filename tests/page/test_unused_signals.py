"""Vectors that nothing makes: the answers are there, and the page says what they were not found by."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.api.processes import ApiProcess, NginxProcess
from tests.page.browser import ask, opened
from tests.page.conftest import Site
from tests.page.filling import MASTERS, QUESTION, READ


def test_it_is_said_beside_the_answers(browser: Browser, site: Site) -> None:
    env = {"KEYMISS_API_MIN_SCORE": "0.05"}
    with (
        ApiProcess(site.cluster.addresses, wait_indexed=MASTERS, env=env) as api,
        NginxProcess(api.port) as nginx,
        opened(browser, nginx.url) as (page, _),
    ):
        ask(page, QUESTION)
        expect(page.locator("li.answer").first).to_contain_text(READ[0].answer)
        notice = page.locator("#answers-state .notice")
        expect(notice).to_contain_text("Not all could be searched by meaning: failed, shard ")
        expect(notice).to_contain_text("by meaning: not ready for all sentences, shards ")
        expect(notice.get_by_role("button", name="Ask again")).to_be_enabled()
