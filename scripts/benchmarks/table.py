"""The rows of a run as a table, on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from scripts.benchmarks.figures import Goal, Results, Row

COLUMNS = ("what", "result", "least to most", "beside it", "ratio", "goal", "met", "")
NUMBERS = {1, 2, 4}
DECIMALS = 100.0  # from here on without


def number(value: float) -> str:
    """As many digits as a reader wants."""
    return (
        f"{value:,.0f}" if abs(value) >= DECIMALS else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    )


def amount(value: float, unit: str) -> str:
    """With its unit."""
    return f"{number(value)} {unit}"


def met(goal: Goal | None) -> str:
    """In a word."""
    return "" if goal is None else "yes" if goal.met else "no"


def cells(row: Row) -> tuple[str, ...]:
    """Of COLUMNS."""
    spread = f"{number(row.least)} to {number(row.most)}" if row.runs > 1 else ""
    other = f"{row.beside.what}: {amount(row.beside.value, row.unit)}" if row.beside else ""
    ratio = f"{row.beside.ratio:.2f}" if row.beside else ""
    goal = row.goal.text if row.goal else ""
    return (row.what, amount(row.value, row.unit), spread, other, ratio, goal, met(row.goal), row.note)


def terminal(results: Results) -> Table:
    """For rich."""
    table = Table(*COLUMNS, title=about(results), title_justify="left", show_lines=False)
    for at in NUMBERS:
        table.columns[at].justify = "right"
    section = ""
    for row in results.rows:
        if row.section != section:
            table.add_section()
        section = row.section
        table.add_row(*cells(row))
    return table


def about(results: Results) -> str:
    """The machine and the run, in a line."""
    machine, options = results.machine, results.options
    flags = " ".join(machine["flags"]) or "no flags known"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    size = "a quick run: its figures say nothing" if options["quick"] else f"{options['rounds']} rounds"
    return (
        f"{machine['processor']} ({flags}), {machine['cores']} cores, {machine['memory_gb']} GB; "
        f"the reader {options['model']} as {options['form']}; commit {machine['commit']}, {machine['at']}; "
        f"{options['masters']} masters, {options['replicas']} replicas each; Python {machine['python']}, "
        f"{packages}; load before {machine['load_before']}; {size}"
    )


def markdown(results: Results) -> str:
    """A table for docs/."""
    return "\n".join(_markdown(results)) + "\n"


def _markdown(results: Results) -> Iterator[str]:
    yield about(results) + "."
    yield ""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + " --- |" * len(COLUMNS)
    for row in results.rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |"
    for what, points in results.curves.items():
        yield ""
        yield f"| {what} | p50, ms | p99, ms | raw forward, ms | whole replies a second | refused a second |"
        yield "|" + " --- |" * 6
        for point in points:
            more = (point.raw_ms, point.whole_per_s, point.refused_per_s)
            optional = ["" if value is None else number(value) for value in more]
            numbers = (f"{point.x:,.0f}", number(point.p50_ms), number(point.p99_ms), *optional)
            yield "| " + " | ".join(numbers) + " |"
