"""For gears functions: what was made from a key that is gone, and the event that told of it was lost
(`keymiss.corpus.catchup`); and what was made and evicted.

from keymiss.worker.functions.left_behind import left_behind
"""

from __future__ import annotations

from typing import Any

from keymiss.corpus.catchup import CATCHUP
from keymiss.keys import PARAGRAPHS_PREFIX, made_from
from keymiss.worker.functions.evictions import note_evicted_of
from keymiss.worker.functions.other_shards import execute_at


def left_behind(record: dict[str, Any]) -> None:
    """For a record of the state of an article, or of what is made of its sentences: if that which it is made
    from is not there, the functions of that get an event, and take out what they made. An eviction of the
    record's own key is noted."""
    key = record["key"]
    source = made_from(key)
    if record["event"] == "evicted":
        note_evicted_of(key, source)
    elif not execute_at(source, "EXISTS", source):
        # Of a text not "del": it may have been evicted.
        execute_at(source, "KM.NOTIFY", CATCHUP if source.startswith(PARAGRAPHS_PREFIX) else "del", source)
