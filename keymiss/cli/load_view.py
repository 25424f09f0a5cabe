"""What is seen of a load while it goes on: bars in a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from keymiss.cli.common import errors
from keymiss.corpus.left_to_do import Stage, in_words, time_left

LINE_EVERY_S = 30.0
FILES = "files"


class LoadView:
    """Bars: one for each thing that is gone through, and one for each stage of the functions' work."""

    def __init__(self) -> None:
        columns = ("{task.description}", "{task.fields[count]}", "{task.fields[more]}")
        description, count, more = map(TextColumn, columns)
        self._terminal = sys.stderr.isatty()
        self._bars = Progress(
            description,
            BarColumn(),
            count,
            TimeElapsedColumn(),
            more,
            console=errors,
            disable=not self._terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said = time.monotonic()

    def __enter__(self) -> LoadView:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._bars.stop()

    def at(self, what: str, done: int, total: int, more: str = "", about: str = "") -> None:
        """How far something is."""
        task = self._tasks.get(what)
        if task is None:
            task = self._tasks[what] = self._bars.add_task(what, count="", more="")
        count = f"{done:,}/{about}{total:,}"
        self._bars.update(task, completed=min(done, total), total=total, count=count, more=more)

    def left(self, stages: Sequence[Stage], files: tuple[int, int]) -> None:
        """What the functions have still to do; `files`: how many of how many were gone through."""
        for stage in stages:
            rate = f"{stage.rate:,.0f}/s, {time_left([stage])}" if stage.left_s else ""
            self.at(stage.name, stage.done, stage.total, rate, "" if stage.exact else "~")
        if not self._terminal and time.monotonic() - self._said > LINE_EVERY_S:
            self._said = time.monotonic()
            errors.print(f"{files[0]:,} of {files[1]:,} {FILES} loaded; {in_words(stages)}", markup=False)
