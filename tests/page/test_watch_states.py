"""/watch with nothing to show, with something away, by keyboard, by address, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.processes import ApiProcess, NginxProcess
from tests.page.browser import Seen, opened
from tests.page.conftest import Site
from tests.page.test_contrast import check as check_contrast
from tests.page.test_keyboard_only import tab_to
from tests.page.watching import DASHBOARDS, FIRST, UIDS, open_watch, panel, read_again, states
from tests.prometheus_process import PrometheusProcess
from tests.servers import wait_until

REDIS = "keymiss-redis"
ALWAYS = "Alerts firing"  # has data wherever there is Prometheus
MEMORY = "Memory by part"  # a graph; the API's part is there
POINTS = 'count_over_time(process_resident_memory_bytes{job="keymiss-api"}[1h])'
NEVER = "Commands by node"  # needs the exporter of Redis, which does not run here
PROBLEM = {
    "type": "about:blank",
    "title": "Prometheus could not answer",
    "status": 502,
    "detail": "It said no.",
}


@pytest.fixture(scope="module")
def measured(site: Site) -> Iterator[tuple[PrometheusProcess, str]]:
    """A Prometheus that measures itself and an API, and the address of that API's site."""
    prometheus = PrometheusProcess()
    env = {"KEYMISS_API_PROMETHEUS_URL": prometheus.url}
    with ApiProcess(site.cluster.addresses, env=env) as api, NginxProcess(api.port) as nginx:
        prometheus.targets["keymiss-api"] = f"127.0.0.1:{api.port}"
        with prometheus:
            yield prometheus, nginx.url


@pytest.fixture(scope="module")
def prometheus(measured: tuple[PrometheusProcess, str]) -> PrometheusProcess:
    return measured[0]


@pytest.fixture(scope="module")
def url(measured: tuple[PrometheusProcess, str]) -> str:
    return measured[1]


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[tuple[Page, Seen]]:
    with opened(browser, url, viewport={"width": 1440, "height": 900}) as (page, seen):
        yield page, seen
        assert seen.errors == []
        assert seen.elsewhere == []


def test_without_prometheus_it_says_how_to_start_it(browser: Browser, site: Site) -> None:
    """Once, not in each panel; the panels say what they would show."""
    with opened(browser, site.url) as (page, seen):
        seen.failed_replies_expected = True
        open_watch(page, site.url)
        notice = page.locator("#trouble .notice")
        expect(notice).to_have_count(1)
        expect(notice).to_contain_text("Prometheus is not configured. This service was started without")
        expect(notice).to_contain_text("scripts/start.sh --observe")
        expect(page.get_by_role("status")).to_contain_text("Prometheus is not configured")
        assert set(states(page).values()) == {"off"}
        check_contrast(page)
        about = next(each.description for each in DASHBOARDS[FIRST].panels if each.title == MEMORY)
        expect(panel(page, MEMORY).locator(".body")).to_have_text(about)
        assert seen.errors == []
        assert seen.elsewhere == []


def test_a_panel_without_data_says_so(page: Page, url: str) -> None:
    open_watch(page, url, REDIS)
    expect(panel(page, NEVER)).to_have_attribute("data-state", "empty")
    expect(panel(page, NEVER).locator(".body")).to_have_text("No data in the last 15 minutes.")
    expect(page.get_by_role("status")).to_contain_text("without data")
    open_watch(page, url, REDIS, 3600)
    expect(panel(page, NEVER).locator(".body")).to_have_text("No data in the last hour.")


def test_one_panel_that_fails_says_what_was_said(page: Page, seen: Seen, url: str) -> None:
    seen.failed_replies_expected = True
    failing = next(each.id for each in DASHBOARDS[FIRST].panels if each.title == ALWAYS)

    def fail(route: Route) -> None:
        route.fulfill(status=502, content_type="application/problem+json", json=PROBLEM)

    page.route(f"**/panels/{failing}?*", fail)
    open_watch(page, url)
    expect(panel(page, ALWAYS)).to_have_attribute("data-state", "error")
    expect(panel(page, ALWAYS).locator(".body")).to_have_text("Prometheus could not answer: It said no.")
    expect(page.locator("#trouble .notice")).to_have_count(0)
    page.unroute(f"**/panels/{failing}?*", fail)
    read_again(page)
    expect(panel(page, ALWAYS).locator(".large")).to_have_text("0")


def test_prometheus_goes_away_and_comes_back(
    page: Page, seen: Seen, url: str, prometheus: PrometheusProcess
) -> None:
    """What was read stays, marked as old; it goes on by itself."""
    seen.failed_replies_expected = True
    open_watch(page, url)
    expect(panel(page, ALWAYS).locator(".large")).to_have_text("0")
    prometheus.terminate()
    try:
        notice = page.locator("#trouble .notice.error")
        expect(notice).to_contain_text("Prometheus cannot be reached (503)")
        expect(notice).to_contain_text("scripts/start.sh --observe")
        expect(panel(page, ALWAYS)).to_have_attribute("data-state", "stale")
        expect(panel(page, ALWAYS).locator(".large")).to_have_text("0")
        expect(page.get_by_role("status")).to_contain_text("Prometheus cannot be reached")
    finally:
        prometheus.start()
    expect(panel(page, ALWAYS)).to_have_attribute("data-state", "data")
    expect(notice).to_have_count(0)


def test_the_address_holds_dashboard_and_range(page: Page, url: str) -> None:
    open_watch(page, url, REDIS, 3600)
    expect(page.get_by_role("tab", selected=True)).to_have_text("Redis cluster")
    expect(page.get_by_role("radio", name="The last hour")).to_be_checked()
    page.get_by_role("tab", name="The Pattern").click()
    expect(page).to_have_url(f"{url}/watch?dashboard={FIRST}&range=3600")
    expect(page).to_have_title("The Pattern \N{EN DASH} Watch \N{EN DASH} Keymiss")
    page.get_by_role("radio", name="The last 5 minutes").check()
    expect(page).to_have_url(f"{url}/watch?dashboard={FIRST}&range=300")
    page.go_back()
    page.go_back()
    expect(page.get_by_role("tab", selected=True)).to_have_text("Redis cluster")
    expect(page.get_by_role("radio", name="The last hour")).to_be_checked()
    expect(page.locator(".panel h2")).to_have_text([each.title for each in DASHBOARDS[REDIS].panels])


def test_an_address_that_names_nothing_shows_the_overview(page: Page, url: str) -> None:
    page.goto(f"{url}/watch?dashboard=nothing&range=7")
    expect(page.get_by_role("tab", selected=True)).to_have_text("The Pattern")
    expect(page.get_by_role("radio", name="The last 15 minutes")).to_be_checked()


def test_by_keyboard(page: Page, url: str) -> None:
    open_watch(page, url)
    tab_to(page, "[role=tab]")
    page.keyboard.press("ArrowRight")
    expect(page.locator(":focus")).to_have_text("Gears and models")
    expect(page.get_by_role("tab", selected=True)).to_have_text("Gears and models")
    page.keyboard.press("End")
    expect(page.get_by_role("tab", selected=True)).to_have_text("Redis cluster")
    page.keyboard.press("1")
    expect(page.get_by_role("tab", selected=True)).to_have_text("The Pattern")
    tab_to(page, "#ranges input")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name="The last 5 minutes")).to_be_checked()
    tab_to(page, "#pause")
    page.keyboard.press("Enter")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("p")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_role("status")).to_have_text("Going on.")


def test_a_graph_s_time_is_walked_with_arrow_keys(
    page: Page, url: str, prometheus: PrometheusProcess
) -> None:
    wait_until(
        lambda: (prometheus.value(POINTS) or 0) > 10,
        60,
        "several points",
        pause_s=0.5,
    )
    open_watch(page, url, FIRST, 300)
    graph = panel(page, MEMORY).get_by_role("slider")
    graph.focus()
    last = int(graph.get_attribute("aria-valuemax") or 0)
    assert last == 60
    expect(graph).to_have_attribute("aria-valuetext", re.compile("^now: "))
    page.keyboard.press("ArrowLeft")
    expect(graph).to_have_attribute("aria-valuenow", str(last))
    page.keyboard.press("ArrowLeft")
    expect(graph).to_have_attribute("aria-valuenow", str(last - 1))
    shown = panel(page, MEMORY).locator(".time").inner_text()
    expect(graph).to_have_attribute("aria-valuetext", re.compile(f"^{shown}: "))
    page.keyboard.press("Home")
    expect(graph).to_have_attribute("aria-valuenow", "0")
    page.keyboard.press("Escape")
    expect(panel(page, MEMORY).locator(".time")).to_be_hidden()
    expect(graph).to_have_attribute("aria-valuenow", str(last))


def test_the_description_shows_on_focus_and_hover_and_escape_hides_it(page: Page, url: str) -> None:
    open_watch(page, url)
    about = panel(page, MEMORY).get_by_role("button", name="About")
    tip = panel(page, MEMORY).get_by_role("tooltip")
    expect(tip).to_be_hidden()
    about.hover()
    expect(tip).to_be_visible()
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    about.focus()
    expect(tip).to_be_visible()
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_the_skip_link_leads_to_the_panels(page: Page, url: str) -> None:
    open_watch(page, url)
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#panels")).to_be_focused()


def test_a_hidden_tab_asks_for_nothing(page: Page, url: str) -> None:
    page.clock.install()
    open_watch(page, url)
    page.evaluate(
        """() => {
            Object.defineProperty(document, 'hidden', { value: true, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        }"""
    )
    before = page.locator("body").get_attribute("data-read")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(60_000)
    assert asked == []
    with page.expect_request("**/panels/*"):
        page.evaluate(
            """() => {
                Object.defineProperty(document, 'hidden', { value: false, configurable: true });
                document.dispatchEvent(new Event('visibilitychange'));
            }"""
        )
    expect(page.locator("body")).not_to_have_attribute("data-read", before or "")


def test_it_reads_anew_by_itself(page: Page, url: str) -> None:
    open_watch(page, url)
    for _ in range(2):
        before = page.locator("body").get_attribute("data-read")
        expect(page.locator("body")).not_to_have_attribute("data-read", before or "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Browser, url: str, scheme: str) -> None:
    with opened(browser, url, color_scheme=scheme, viewport={"width": 1440, "height": 900}) as (page, _):
        for uid in UIDS:
            open_watch(page, url, uid)
            check_contrast(page)
        page.keyboard.press("p")
        panel(page, NEVER).get_by_role("button", name="About").focus()
        expect(panel(page, NEVER).get_by_role("tooltip")).to_be_visible()
        check_contrast(page)


def test_lines_change_their_colours_with_the_scheme(page: Page, url: str) -> None:
    open_watch(page, url, FIRST, 300)
    canvas = panel(page, MEMORY).locator("canvas")
    page.keyboard.press("p")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    page.emulate_media(color_scheme="dark")
    wait_until(lambda: canvas.evaluate("canvas => canvas.toDataURL()") != before, 10, "it is drawn anew")
