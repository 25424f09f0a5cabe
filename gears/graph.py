"""Keep the concept graph: what sentences gained and lost goes from the stream edges:{tag} into the graph.

The graph is in the shard itself, or in the FalkorDB server of KEYMISS_GRAPH_URL. An entry that is no edge is
logged and passed over; when the graph cannot be written the entries stay, and it is tried again.
"""

from typing import TYPE_CHECKING

from keymiss.graph import choose_writer
from keymiss.graph.events import EdgeEvent
from keymiss.keys import tag_in
from keymiss.pipeline.records import Record

if TYPE_CHECKING:
    from keymiss.worker.functions.gears_api import GB, execute, log

Event = tuple[str, EdgeEvent]
"""The stream's key, and what an entry says."""


def event_of(record: Record) -> list[Event]:
    try:
        return [(record["key"], EdgeEvent.parse(record["value"]))]
    except ValueError as error:
        log(f"{record['key']} {record['id']}: {error}", "warning")
        return []


def gather(together: list[Event] | None, event: Event) -> list[Event]:
    together = together or []
    together.append(event)
    return together


def apply(together: list[Event]) -> None:
    key, _ = together[0]
    choose_writer(execute, tag_in(key)).apply([event for _, event in together])


GB("StreamReader", desc="concept graph").flatmap(event_of).accumulate(gather).foreach(apply).register(
    prefix="edges:", batch=1000, mode="async_local", onFailedPolicy="retry", onFailedRetryInterval=2
)
