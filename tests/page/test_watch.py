"""/watch of the whole system under load: every panel of every dashboard shows data; paused it stays still."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.e2e import test_observe
from tests.e2e.test_observe import Load, Watched
from tests.page.browser import Seen, opened
from tests.page.test_phone import TOO_SMALL, TOUCH_PX, WIDTH
from tests.page.watching import (
    DASHBOARDS,
    FIRST,
    UIDS,
    empty_pictures,
    open_watch,
    panel,
    picture,
    read_again,
    states,
)
from tests.servers import wait_until

pytestmark = pytest.mark.timeout(240)
system = test_observe.system  # the whole local system, started with --observe
RANGE_S = 300
REFRESH_S = 5


@pytest.fixture(scope="module")
def url(system: Watched) -> Iterator[str]:
    """Of the site. Questions are asked, and an article more is loaded, while the tests run."""
    with Load(system) as load:
        system.python("-m", "keymiss.cli", "load", str(test_observe.LATER_ARTICLE))
        yield f"https://127.0.0.1:{system.settings.https_port}"
    assert load.failed == []


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[tuple[Page, Seen]]:
    with opened(browser, url, viewport={"width": 1440, "height": 900}) as (page, seen):
        yield page, seen
        assert seen.errors == []
        assert seen.elsewhere == []


@pytest.fixture
def page(visit: tuple[Page, Seen]) -> Page:
    return visit[0]


def wait_for_data(page: Page, uid: str) -> None:
    """Until every panel has some, and shows it: a rate needs two measurements, a line two points."""
    missing: list[str] = []

    def full() -> bool:
        read_again(page)
        missing[:] = [title for title, state in states(page).items() if state != "data"]
        missing.extend(empty_pictures(page, DASHBOARDS[uid]))
        return not missing

    try:
        wait_until(full, 60, "data in every panel", pause_s=0.5)
    except AssertionError:
        assert missing == []


@pytest.mark.parametrize("uid", UIDS)
def test_every_panel_shows_data(page: Page, url: str, uid: str) -> None:
    open_watch(page, url, uid, RANGE_S)
    wait_for_data(page, uid)
    assert states(page) == {each.title: "data" for each in DASHBOARDS[uid].panels}


def test_the_figures_are_those_of_the_system(page: Page, url: str, system: Watched) -> None:
    open_watch(page, url, FIRST, RANGE_S)
    wait_for_data(page, FIRST)
    expect(panel(page, "Slots with a master").locator(".large")).to_have_text("16,384")
    expect(panel(page, "Nodes down").locator(".large")).to_have_text("0")
    expect(panel(page, "Nodes").locator("tbody tr")).to_have_count(len(system.settings.ports))
    expect(panel(page, "Nodes").locator("td.value")).to_have_text(["up"] * len(system.settings.ports))
    expect(panel(page, "Questions").locator(".large")).to_contain_text("req/s")
    summary = panel(page, "How long a question takes").locator(":scope > .unseen")
    expect(summary).to_contain_text("p99")


def newest_s(url: str) -> float:
    """The time of the newest point that the page could show, seconds since 1970."""
    panel_id = DASHBOARDS[FIRST].panels[0].id
    address = f"{url}/watch/dashboards/{FIRST}/panels/{panel_id}?range_s={RANGE_S}"
    time_s: float = httpx.get(address, verify=False).json()["series"][0]["points"][-1][0]
    return time_s


def test_paused_it_stays_still(page: Page, url: str) -> None:
    open_watch(page, url, FIRST, RANGE_S)
    wait_for_data(page, FIRST)
    page.keyboard.press("p")
    expect(page.locator("#when")).to_contain_text("Paused.")
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    before = picture(page)
    shown_s = newest_s(url)
    wait_until(lambda: newest_s(url) > shown_s + REFRESH_S, 30, "there is more to show", pause_s=0.5)
    assert picture(page) == before
    assert asked == []
    page.get_by_role("button", name="Go on").click()
    wait_until(lambda: picture(page) != before, 20, "it goes on")
    assert len(asked) >= len(DASHBOARDS[FIRST].panels)


@pytest.mark.parametrize("uid", UIDS)
def test_on_a_phone(browser: Browser, url: str, uid: str) -> None:
    shape = {"viewport": {"width": WIDTH, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, url, device_scale_factor=2, **shape) as (page, seen):
        open_watch(page, url, uid, RANGE_S)
        assert page.evaluate("() => document.documentElement.scrollWidth") == WIDTH
        assert page.evaluate(TOO_SMALL, TOUCH_PX) == []
        for box in (each.bounding_box() for each in page.locator(".panel").all()):
            assert box
            assert 0 <= box["x"] < box["x"] + box["width"] <= WIDTH
        page.locator(".panel .about").nth(1).tap()
        expect(page.locator(".panel .tip").nth(1)).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") == WIDTH
        assert seen.errors == []
        assert seen.elsewhere == []


def test_only_committed_queries_are_asked(page: Page, url: str) -> None:
    """The page asks for panels by number; no query is in what it sends."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.url} {request.post_data or ''}"))
    open_watch(page, url, FIRST, RANGE_S)
    panels = [each for each in asked if "/panels/" in each]
    assert len(panels) >= len(DASHBOARDS[FIRST].panels)
    assert all(each.rstrip().endswith(f"?range_s={RANGE_S}") for each in panels)
    reply = httpx.get(panels[0].strip(), verify=False)
    assert reply.status_code == 200
    assert "expr" not in reply.text
