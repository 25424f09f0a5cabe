"""The writing side: what takes edge events, whichever store is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from keymiss.graph.events import EdgeEvent

Execute = Callable[..., Any]
"""Runs a command on the shard and returns its reply: str or bytes, int, list, None. Raises an error reply."""


@dataclass(frozen=True, slots=True)
class Applied:
    """How many carriers were added and removed; both are 0 when all events came a second time. One that
    a batch adds and removes again is not counted."""

    added: int
    removed: int


class GraphStore(Protocol):
    """A concept graph that can be changed."""

    def apply(self, events: Iterable[EdgeEvent]) -> Applied:
        """Applies the events in their order. The same ones again, from any of them on to the last, change
        nothing. Raises what the store's client raises; then a part may have been applied, and applying
        all of them again is right."""
