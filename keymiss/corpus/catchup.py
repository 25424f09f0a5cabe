"""Doing what was missed: every key that a registration with the event "catchup" asks for gets that event.

Key events live in a server's memory, so a restart loses those that waited. A function that names "catchup"
among its event types is told of every key with its prefix, whenever a worker attaches to a shard that it does
not know or that was restarted, and when the function is registered; it looks by itself whether there is
anything to do. (A StreamReader always is.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keymiss.corpus.key_events import notify

CATCHUP = "catchup"


def catch_up(
    command: Callable[..., Any],
    only: Callable[[str], bool] = lambda registration_id: True,
    in_slots: Callable[[int], bool] | None = None,
) -> int:
    """Queues the event for the keys of one shard; `command` runs a command there and gives raw replies
    (bytes). `only` chooses registrations by id, `in_slots` slots. Returns how many jobs wait now; one that
    waited already counts."""
    wanted: set[tuple[str, str]] = set()
    for row in command("KM.REGISTRATIONS"):
        registration_id, _, _, _, _, _, prefix, events, key_types, *_ = (_text(field) for field in row)
        if CATCHUP in events.lower().split(",") and only(registration_id):
            wanted |= {(prefix, key_type) for key_type in key_types.split(",")}
    return sum(notify(command, CATCHUP, prefix, key_type, in_slots) for prefix, key_type in sorted(wanted))


def _text(field: Any) -> str:
    return field.decode("utf-8", "surrogateescape") if isinstance(field, bytes) else str(field)
