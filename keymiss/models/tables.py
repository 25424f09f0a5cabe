"""How the command lines of keymiss.models show figures, and why some are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from keymiss.models.asking import EvaluateError

FILE_COLUMNS = 130  # of a table that does not go to a terminal
SHOWN = 5  # of the answers that differ, and of the reasons why questions could not be put


def plain_or_terminal() -> Console:
    """For standard output; in a file tables are as wide as they have to be."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_COLUMNS)


def show(console: Console, title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """A table with a column for each of `columns` (field -> heading)."""
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(columns.values()):
        table.add_column(heading, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        values = [row[name] for name in columns]
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)


def show_problems(console: Console, problems: Sequence[str]) -> None:
    """Why questions could not be put; empty: it could. EvaluateError if no question could."""
    reasons = [problem for problem in problems if problem]
    if reasons and len(reasons) == len(problems):
        raise EvaluateError(f"not one question could be put: {reasons[0]}")
    for reason in list(dict.fromkeys(reasons))[:SHOWN]:
        console.print(
            f"could not be put, {reasons.count(reason)} questions: {reason}", markup=False, soft_wrap=True
        )
