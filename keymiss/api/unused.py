"""What could not be used for a question. Its reply is made of the rest, and names it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keymiss.api_shapes.questions import Reason as Reason
from keymiss.api_shapes.questions import Signal as Signal

REASONS = {Signal.VECTORS: tuple(Reason), Signal.LINKS: (Reason.LATE, Reason.FAILED)}
"""Those that there can be."""


@dataclass(frozen=True, slots=True)
class Unused:
    """``missing``: the shards, or the graph's server, that it was wanted from; empty if none is known."""

    signal: Signal
    reason: Reason
    missing: tuple[str, ...] = ()


def merged(found: Iterable[Unused]) -> tuple[Unused, ...]:
    """One for each signal and reason."""
    missing: dict[tuple[Signal, Reason], set[str]] = {}
    for each in found:
        missing.setdefault((each.signal, each.reason), set()).update(each.missing)
    return tuple(Unused(*kind, tuple(sorted(names))) for kind, names in sorted(missing.items()))
