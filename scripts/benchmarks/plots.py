"""The plots of a run, as PNG. Each is left out when what it shows was not measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.benchmarks.failure import BenchFailed
from scripts.benchmarks.figures import Point, Results, Row

OURS, FLOOR, OTHER, GOAL = "#1f6fb2", "#8a8a8a", "#d08a2e", "#b22222"
STAGES = ("#bdbdbd", "#969696", "#6f6f6f", "#7fb4dd", "#bcd9ef", "#1f6fb2", "#e0a458", "#f2d3a2", "#57a773")
WIDTH = 8.0
DPI = 110


class NoMatplotlib(BenchFailed):
    """It is not installed."""


def pyplot() -> Any:
    """Without a display. NoMatplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise NoMatplotlib(
            "the plots need matplotlib: .venv/bin/pip install --require-hashes -r requirements-dev.lock, "
            "or --no-plots"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    look = {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "font.size": 10}
    plt.rcParams.update({**look, "axes.grid": True, "grid.color": "#e6e6e6", "savefig.dpi": DPI})
    return plt


def draw(results: Results, folder: Path) -> list[Path]:
    """All that can be drawn."""
    plt = pyplot()
    drawn = []
    for name, (_, plot) in PLOTS.items():
        figure = plot(plt, results)
        if figure is not None:
            figure.savefig(folder / name, bbox_inches="tight", metadata={"Software": None})
            plt.close(figure)
            drawn.append(folder / name)
    return drawn


def _fresh(plt: Any, results: Results) -> Any:
    """A question and the same sentences read in other ways."""
    ours = results.row("fresh", "fresh question")
    if ours is None or ours.beside is None:
        return None
    bars = [
        (f"raw forward ({results.options['form']})", ours.beside.value, FLOOR),
        ("Keymiss, through nginx", ours.value, OURS),
    ]
    bars += [
        (row.what.removesuffix(", warm"), row.value, OTHER)
        for row in results.rows
        if row.section == "alternatives" and row.what.endswith(", warm") and _is_beside(row, ours)
    ]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.42 * len(bars)))
    _bars(axes, bars, "ms")
    axes.set_xlabel("ms for the same 20 sentences (median)")
    return figure


def _is_beside(row: Row, ours: Row) -> bool:
    return row.beside is not None and ours.what.startswith(row.beside.what)


def _bars(axes: Any, bars: list[tuple[str, float, str]], unit: str) -> None:
    names, values, colours = zip(*bars, strict=True)
    drawn = axes.barh(range(len(bars)), values, color=colours, height=0.65)
    axes.bar_label(drawn, labels=[f"{value:,.0f} {unit}" for value in values], padding=4)
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.15)
    axes.grid(False, axis="y")


def _stages(plt: Any, results: Results) -> Any:
    """Where the time of a fresh question goes, above the raw forward."""
    if not results.stages:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 3.0))
    left = 0.0
    for (name, ms), colour in zip(results.stages.items(), STAGES, strict=True):
        axes.barh(0, ms, left=left, color=colour, height=0.6, label=f"{name}: {ms:.1f} ms")
        left += ms
    names = ["fresh question"]
    ours = results.row("fresh", "fresh question")
    if ours and ours.beside:
        axes.barh(1, ours.beside.value, color=FLOOR, height=0.6)
        axes.text(ours.beside.value, 1, f"  {ours.beside.value:.0f} ms", va="center")
        names.append("raw forward")
    axes.text(left, 0, f"  {left:.0f} ms", va="center")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, left * 1.12)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("ms (parts: mean; raw forward: median)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.28), ncols=3, frameon=False, fontsize=9)
    return figure


def _rates(plt: Any, results: Results) -> Any:
    """Different misses beside the raw forward."""
    rows = [row for row in results.rows if row.section == "distinct" and row.beside]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
    for at, row in enumerate(rows):
        assert row.beside is not None
        pair = (
            (row.value, row.beside.value) if row.unit == "/s" else (1000 / row.value, 1000 / row.beside.value)
        )
        for shift, value, colour, name in (
            (-0.2, pair[0], OURS, "Keymiss"),
            (0.2, pair[1], FLOOR, "raw forward of the same sentences"),
        ):
            label = name if at == 0 else None
            bar = axes.bar(at + shift, value, 0.38, color=colour, label=label)
            axes.bar_label(bar, labels=[f"{value:.0f}"], padding=2)
    names = [row.what.removeprefix("different misses, ").replace(", ", "\n") for row in rows]
    axes.set_xticks(range(len(rows)), names)
    axes.set_ylabel("sentences read a second")
    axes.grid(False, axis="x")
    axes.margins(y=0.15)
    axes.legend(frameon=False)
    return figure


def _growth(plt: Any, results: Results) -> Any:
    """A panel for each thing that grows."""
    if not results.curves:
        return None
    panels: list[tuple[str, str]] = [(what, "ms") for what in results.curves]
    if "clients" in results.curves:
        panels.append(("clients", "whole replies a second"))
    rows = -(-len(panels) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(WIDTH, 2.8 * rows), squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (what, unit) in zip(grid.flat, panels, strict=False):
        _curve(axes, what, unit, results.curves[what])
    figure.tight_layout()
    return figure


def _curve(axes: Any, what: str, unit: str, points: list[Point]) -> None:
    at = [point.x for point in points]
    if unit == "ms":
        axes.plot(at, [point.p50_ms for point in points], "o-", color=OURS, label="p50", markersize=4)
        axes.plot(at, [point.p99_ms for point in points], "o--", color=OTHER, label="p99", markersize=4)
        if all(point.raw_ms is not None for point in points):
            axes.plot(at, [point.raw_ms for point in points], "-", color=FLOOR, label="raw forward")
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.plot(at, [point.whole_per_s for point in points], "o-", color=OURS, markersize=4)
    axes.set_xscale("log")
    axes.set_xticks(at, [f"{x / 1000:g}k" if x >= 1000 else f"{x:g}" for x in at])
    axes.minorticks_off()
    axes.set_xlabel(what)
    axes.set_ylabel("ms" if unit == "ms" else unit)
    axes.set_ylim(bottom=0)


def _memory(plt: Any, results: Results) -> Any:
    """The parts, beside the goal."""
    rows = [row for row in results.rows if row.section == "memory"]
    if not rows:
        return None
    *parts, whole = rows
    figure, axes = plt.subplots(figsize=(WIDTH, 1.9))
    left = 0.0
    for row, colour in zip(parts, (OURS, OTHER, "#57a773", FLOOR), strict=True):
        axes.barh(0, row.value, left=left, color=colour, height=0.6, label=f"{row.what}: {row.value:,.0f} MB")
        left += row.value
    axes.text(left, 0, f"  {whole.value:,.0f} MB", va="center")
    axes.set_xlim(0, left * 1.15)
    if whole.goal:
        axes.axvline(whole.goal.limit, color=GOAL, linestyle="--", label=f"goal: {whole.goal.limit:,.0f} MB")
        axes.set_xlim(0, max(left, whole.goal.limit) * 1.15)
    axes.set_yticks([])
    axes.set_xlabel("MB (PSS)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.45), ncols=3, frameon=False, fontsize=9)
    return figure


PLOTS: dict[str, tuple[str, Callable[[Any, Results], Any]]] = {
    "bench-fresh.png": ("A fresh question beside other ways to read the same sentences", _fresh),
    "bench-stages.png": ("Where the time of a fresh question goes, above the raw forward", _stages),
    "bench-rates.png": ("Different misses a second beside the raw forward", _rates),
    "bench-growth.png": ("A fresh question as masters, sentences and clients become more", _growth),
    "bench-memory.png": ("What the whole system has in memory", _memory),
}
"""Name of the file -> what it shows, and what draws it."""
