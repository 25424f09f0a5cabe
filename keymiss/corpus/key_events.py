"""All keys of one shard with a prefix, and an event for each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from keymiss.keys import slot_of

SCAN_COUNT = 1000

Command = Callable[..., Any]
"""Runs a command on the shard and gives its reply; names as text or bytes."""


def keys_with(command: Command, prefix: str, key_type: str = "") -> Iterator[list[Any]]:
    """Names of the keys that begin with `prefix`, some at a time; of all types if `key_type` is empty. As
    with SCAN itself, a key may come twice."""
    cursor: Any = "0"
    pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix) + "*"
    of_type = ("TYPE", key_type) if key_type and key_type != "module" else ()
    while True:
        cursor, names = command("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT, *of_type)
        if names:
            yield names
        if int(cursor) == 0:
            return


def notify(
    command: Command,
    event: str,
    prefix: str,
    key_type: str = "",
    in_slots: Callable[[int], bool] | None = None,
) -> int:
    """Queues the event for each of `keys_with`, of some slots only if `in_slots` is given. Returns how many
    jobs wait now; one that waited already counts."""
    queued = 0
    for names in keys_with(command, prefix, key_type):
        some = [name for name in names if in_slots is None or in_slots(slot_of(name))]
        queued += command("KM.NOTIFY", event, *some) if some else 0
    return queued
