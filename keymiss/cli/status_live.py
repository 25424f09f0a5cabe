"""A text that is drawn again and again on the terminal's other screen, and is scrolled when it is too long.

Keys are read while it is shown; however it ends, the terminal is as it was before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

SCROLL = {b"\x1b[A": -1, b"k": -1, b"\x1b[B": 1, b"j": 1, b"\x1b[5~": -10, b"\x1b[6~": 10, b" ": 10}
"""Arrows and page keys as terminals send them, and those of pagers."""


class Stop:
    """Set by q, Ctrl-C or SIGTERM; `wait` ends at once then, and when a key was pressed."""

    def __init__(self) -> None:
        self.stopped = False
        self.scroll = 0
        self._woken = asyncio.Event()

    async def wait(self, timeout_s: float) -> bool:
        """False when the time was over, True when something happened."""
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def stop(self) -> None:
        """Ends it."""
        self.stopped = True
        self._woken.set()

    def key(self, typed: bytes) -> None:
        """What was typed, several keys perhaps."""
        if typed in SCROLL:
            self.scroll += SCROLL[typed]
        elif not typed or b"q" in typed.lower() or b"\x03" in typed:  # nothing: the terminal is gone
            self.stopped = True
        self._woken.set()


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM are a stop like any other."""
    loop, stop = asyncio.get_running_loop(), Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.stop)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def keys_to(stop: Stop) -> Iterator[None]:
    """Keys reach `stop` one by one, and are not echoed."""
    if not sys.stdin.isatty():
        yield
        return
    number, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    loop.add_reader(number, lambda: stop.key(os.read(number, 64)))
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


class Screen:
    """The terminal's other screen."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, screen=True, auto_refresh=False, transient=True)
        self._shown: RenderableType = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, shown: RenderableType, note: str, stop: Stop) -> None:
        """Draws it from line `stop.scroll` on, which is brought into what there is."""
        self._live.update(_Window(shown, note, stop), refresh=True)


class _Window:
    """As much of a text as the screen has lines for, and a line below that says so."""

    def __init__(self, shown: RenderableType, note: str, stop: Stop) -> None:
        self._shown, self._note, self._stop = shown, note, stop

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = max(2, options.max_height) - 1
        lines = console.render_lines(self._shown, options.update(height=None), pad=True)
        first = min(max(self._stop.scroll, 0), max(0, len(lines) - height))
        self._stop.scroll = first
        for number in range(first, first + height):
            yield from lines[number] if number < len(lines) else ()
            yield Segment.line()
        note = self._note
        if len(lines) > height:
            note += f", arrows scroll: lines {first + 1} to {first + height} of {len(lines)}"
        yield Text(note, "dim", no_wrap=True, overflow="crop", end="")
