"""Values and axes in words, as the page /watch writes them."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page


def call(page: Page, name: str, *values: Any) -> Any:
    """A function of watch-units.js."""
    return page.evaluate(
        "async ([name, values]) => (await import('/page/watch-units.js'))[name](...values)", [name, values]
    )


def test_values_have_the_unit_that_suits_them(page: Page) -> None:
    said = {
        (0.0123, "s"): "12.3 ms",
        (0.00000234, "s"): "2.34 \N{MICRO SIGN}s",
        (0, "s"): "0 s",
        (59.9999, "s"): "1 min",
        (75, "s"): "1.25 min",
        (3700, "s"): "1.03 h",
        (1, "ms"): "1 ms",
        (2500, "ms"): "2.5 s",
        (0, "bytes"): "0 B",
        (1.2e9, "bytes"): "1.12 GiB",
        (95_500, "Bps"): "95.5 kB/s",
        (0.98234, "percentunit"): "98.2 %",
        (98.234, "percent"): "98.2 %",
        (17.25, "reqps"): "17.3 req/s",
        (1234, "ops"): "1.23k ops/s",
        (12345, "short"): "12.3k",
        (999.99, "short"): "1k",
        (-5.5, "short"): "-5.5",
        (16384, "none"): "16,384",
        (0.00004, "none"): "0",
        (3, "sheep"): "3 sheep",
        (None, "s"): "\N{EN DASH}",
    }
    assert {key: call(page, "format", *key) for key in said} == said


@pytest.mark.parametrize(
    ("values", "unit", "texts"),
    [
        ([0, 0.05, 0.1], "s", ["0 ms", "50 ms", "100 ms"]),
        ([0, 0.25, 0.5], "none", ["0", "0.25", "0.5"]),
        ([0, 2.5, 5], "ops", ["0 ops/s", "2.5 ops/s", "5 ops/s"]),
        ([0, 2**29, 2**30], "bytes", ["0 GiB", "0.5 GiB", "1 GiB"]),
        ([0, 500, 1000], "short", ["0k", "0.5k", "1k"]),
        ([0, 0.2, 1], "percentunit", ["0 %", "20 %", "100 %"]),
        ([0], "s", ["0 s"]),
    ],
)
def test_an_axis_has_one_unit(page: Page, values: list[float], unit: str, texts: list[str]) -> None:
    assert call(page, "ticks", values, unit) == texts


def test_ranges_in_words(page: Page) -> None:
    said = {300: "5 minutes", 900: "15 minutes", 3600: "hour", 21600: "6 hours", 86400: "day"}
    assert {seconds: call(page, "rangeInWords", seconds) for seconds in said} == said
