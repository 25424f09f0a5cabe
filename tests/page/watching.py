"""The page /watch in a browser: opening it, and what its panels show."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from keymiss.api.watch.dashboards import Dashboard, load_dashboards
from tests.patience import patient

DASHBOARDS = load_dashboards()
UIDS = list(DASHBOARDS)
FIRST = "keymiss-pattern"
DRAWN = """canvas => {
    const panel = canvas.closest('.panel');
    const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
    const context = copy.getContext('2d', { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(0, 0, copy.width, copy.height);
    const colours = [...panel.querySelectorAll('.swatch')].map(e => getComputedStyle(e).backgroundColor.match(/\\d+/g).map(Number));
    let pixels = 0;
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] > 200 && colours.some(([r, g, b]) =>
            Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 24)) pixels += 1;
    }
    return pixels;
}"""  # noqa: E501 - how many pixels have the colour of a line


def open_watch(page: Page, site: str, uid: str | None = None, range_s: int | None = None) -> None:
    """Opens it and waits until every panel was read once."""
    query = "&".join(f"{name}={value}" for name, value in (("dashboard", uid), ("range", range_s)) if value)
    page.goto(f"{site}/watch?{query}")
    expect(page.locator("body[data-read]")).to_be_attached(timeout=patient(30) * 1000)


def panel(page: Page, title: str) -> Locator:
    """The panel of that title."""
    return page.locator(".panel").filter(has=page.get_by_role("heading", name=title, exact=True))


def states(page: Page) -> dict[str, str]:
    """Title -> state."""
    found: dict[str, str] = page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('.panel')]"
        ".map(e => [e.querySelector('h2').textContent, e.dataset.state]))"
    )
    return found


def read_again(page: Page) -> None:
    """Presses R and waits until every panel was read once more."""
    before = page.locator("body").get_attribute("data-read")
    page.keyboard.press("r")
    expect(page.locator("body")).not_to_have_attribute("data-read", before or "", timeout=patient(30) * 1000)


def empty_pictures(page: Page, dashboard: Dashboard) -> list[str]:
    """The panels that say that they have data and show none."""
    empty = []
    for one in dashboard.panels:
        shown = page.locator(f".panel[data-id='{one.id}']")
        if one.type == "timeseries":
            canvas = shown.locator("canvas")
            seen = canvas.count() == 1 and canvas.evaluate(DRAWN) >= 40
        else:
            part = {"stat": ".large", "gauge": ".large", "bargauge": ".bars .now", "table": "tbody td.value"}
            texts = shown.locator(part[one.type]).all_inner_texts()
            seen = bool(texts) and all(text.strip() not in ("", "–") for text in texts)  # noqa: RUF001
        if not seen:
            empty.append(one.title)
    return empty


def picture(page: Page) -> Any:
    """All that can be seen of the panels: their texts and their pixels."""
    return page.evaluate(
        "() => [document.getElementById('panels').innerText,"
        " ...[...document.querySelectorAll('canvas')].map(e => e.toDataURL())]"
    )
