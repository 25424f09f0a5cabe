"""Signals that end a run at a place where that is safe."""

from __future__ import annotations

import signal


class Stopping:
    """A context in which SIGINT and SIGTERM are collected in a list instead of ending the process at once."""

    def __enter__(self) -> list[int]:
        self.got: list[int] = []
        self._before = {
            number: signal.signal(number, lambda got, _: self.got.append(got))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self.got

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
