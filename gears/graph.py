# ruff: noqa: F821 - the names are the gears runtime's
"""Keep the concept graph: what sentences gained and lost goes from the stream edges:{tag} into the graph.

The graph is in the shard itself, or in the FalkorDB server of KEYMISS_GRAPH_URL. An entry that is no edge is
logged and passed over; when the graph cannot be written the entries stay, and it is tried again.
"""


def event_of(record):
    from keymiss.graph.events import EdgeEvent

    try:
        return [(record["key"], EdgeEvent.parse(record["value"]))]
    except ValueError as error:
        log(f"{record['key']} {record['id']}: {error}", "warning")
        return []


def gather(together, event):
    together = together or []
    together.append(event)
    return together


def apply(together):
    from keymiss.graph import choose_writer

    key = together[0][0]
    tag = key[key.find("{") + 1 : key.find("}")]
    choose_writer(execute, tag).apply([event for _, event in together])


GB("StreamReader", desc="concept graph").flatmap(event_of).accumulate(gather).foreach(apply).register(
    prefix="edges:", batch=1000, mode="async_local", onFailedPolicy="retry", onFailedRetryInterval=2
)
