"""The shards' figures as metrics. docs/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from keymiss.api.figures.shard_figures import ClusterFigures, MasterFigures, NodeFigures

BY_NODE = ("shard", "node")
BY_MODEL = ("shard", "model")
BY_REGISTRATION = ("shard", "registration")

GAUGES = {
    "workers": "Connections of workers attached.",
    "workers_away": "Of these, workers of other hosts that stand in.",
    "jobs_queued": "Misses, scripts and model runs that wait for a worker.",
    "events_queued": "Key events that wait for a worker.",
    "events_running": "Key events that a worker has.",
    "jobs_running": "Jobs that a worker has, events too.",
    "clients_waiting": "Clients that are blocked on a job.",
    "oldest_job_ms": "How long the first job of the queue has waited.",
    "registrations": "Registrations.",
    "scripts": "Scripts that are kept for them.",
    "tensors_and_models_bytes": "Memory of all tensors and models, but for blobs that are in files.",
    "mapped_models_bytes": "Blobs of models that are in files, mapped.",
    "derived_keys": "Keys recorded as derived, stale ones too.",
    "derived_sources": "Keys that they were derived from.",
    "derived_stale": "Stale keys that are not removed yet.",
    "states": "Sentences whose states are kept.",
}
COUNTERS = {
    "filter_hits": "GETs and KM.MISSes of a watched key that found it.",
    "filter_misses": "GETs and KM.MISSes of a watched key that became a question.",
    "flights_opened": "Misses that opened a job.",
    "clients_coalesced": "Clients that joined a job already open for their key.",
    "jobs_done": "Jobs that a worker answered.",
    "jobs_failed": "Jobs that a worker reported as failed.",
    "jobs_abandoned": "Jobs dropped because every client left before they were taken.",
    "jobs_requeued": "Jobs given back: their worker's connection closed, or it could not begin them.",
    "jobs_lost": "Jobs failed because their worker's connection closed too often.",
    "jobs_late": "Answers that came after their job had ended.",
    "clients_timed_out": "Clients that waited longer than their time limit.",
    "clients_disconnected": "Clients that left while they waited.",
    "refused_busy": "Requests refused because the queue was full.",
    "refused_noworker": "Requests refused because no worker was attached.",
    "refused_nofunction": "Misses refused because only other shards have a function for them.",
    "events_triggered": "Key events queued for a registration.",
    "events_coalesced": "Key events dropped because the same one was queued already.",
    "events_dropped": "Key events dropped because the event queue was full.",
    "derived_removed": "Keys removed because a source of theirs changed.",
}
IN_SECONDS = {"oldest_job_ms": "oldest_job_seconds"}
"""Figures in milliseconds, and what they are called in seconds."""


def families(figures: ClusterFigures) -> Iterator[Metric]:
    """Every metric there is, with the nodes' samples."""
    shards = [(node, node.master) for node in figures.nodes if node.master is not None]
    yield from _nodes(figures.nodes)
    yield GaugeMetricFamily(
        "keymiss_cluster_slots_covered", "Slots whose master answers (of 16384).", figures.slots_covered
    )
    yield GaugeMetricFamily("keymiss_cluster_shards", "Masters that have slots.", figures.shards)
    yield from _stats(shards)
    yield from _lengths(shards)
    yield from _models(shards)
    yield from _registrations(shards)


def _nodes(nodes: Iterable[NodeFigures]) -> Iterator[Metric]:
    up = GaugeMetricFamily("keymiss_node_up", "Whether the node answered.", labels=["node"])
    info = GaugeMetricFamily(
        "keymiss_node_info", "The node's role, and the shard it belongs to.", labels=["node", "role", "shard"]
    )
    for node in nodes:
        up.add_metric([node.name], float(node.up))
        if node.role:
            info.add_metric([node.name, node.role, node.shard], 1)
    yield up
    yield info


Shards = list[tuple[NodeFigures, MasterFigures]]


def _stats(shards: Shards) -> Iterator[Metric]:
    """Of KM.STATS; a figure that no table names (of a newer module) is a gauge."""
    unknown = dict.fromkeys(name for _, master in shards for name in master.stats)
    helps = dict.fromkeys((n for n in unknown if n not in COUNTERS), "A figure of KM.STATS.") | GAUGES
    for name, said in helps.items():
        gauge = GaugeMetricFamily(f"keymiss_shard_{IN_SECONDS.get(name, name)}", said, labels=BY_NODE)
        for node, master in shards:
            if name in master.stats:
                value = master.stats[name] / (1000 if name in IN_SECONDS else 1)
                gauge.add_metric([node.shard, node.name], value)
        yield gauge
    for name, said in COUNTERS.items():
        counter = CounterMetricFamily(f"keymiss_shard_{name}_total", said, labels=BY_NODE)
        for node, master in shards:
            if name in master.stats:
                counter.add_metric([node.shard, node.name], master.stats[name])
        yield counter


def _lengths(shards: Shards) -> Iterator[Metric]:
    edges = GaugeMetricFamily(
        "keymiss_shard_edges_waiting", "Pairs of concepts on their way to the graph.", labels=BY_NODE
    )
    concepts = GaugeMetricFamily(
        "keymiss_shard_graph_concepts", "Concepts that the shard's part of the graph links.", labels=BY_NODE
    )
    evicted = GaugeMetricFamily(
        "keymiss_shard_evicted_keys", "Keys of articles that were evicted and are missing.", labels=BY_NODE
    )
    for node, master in shards:
        if master.edges_waiting is not None:
            edges.add_metric([node.shard, node.name], master.edges_waiting)
        if master.graph_concepts is not None:
            concepts.add_metric([node.shard, node.name], master.graph_concepts)
        if master.evicted is not None:
            evicted.add_metric([node.shard, node.name], master.evicted)
    yield edges
    yield concepts
    yield evicted


def _models(shards: Shards) -> Iterator[Metric]:
    for figure, metric, said, a_second in (
        ("calls", "calls", "Runs of the model, failed ones too.", 1),
        ("errors", "errors", "Runs that failed.", 1),
        ("samples", "samples", "Rows of the batches that were run.", 1),
        ("duration", "duration_seconds", "Time in the model.", 1_000_000),
    ):
        counter = CounterMetricFamily(f"keymiss_model_{metric}_total", said, labels=BY_MODEL)
        for node, master in shards:
            for model, figures in master.models.items():
                counter.add_metric([node.shard, model], figures.get(figure, 0) / a_second)
        yield counter


def _registrations(shards: Shards) -> Iterator[Metric]:
    for figure, metric, said, a_second in (
        ("triggered", "triggered", "Events and misses that came for the registration.", 1),
        ("done", "done", "Of them, those that ended well.", 1),
        ("failed", "failed", "Of them, those that failed.", 1),
        ("aborted", "aborted", "Of them, those that were given up.", 1),
        ("total_ms", "duration_seconds", "Time that they took.", 1000),
    ):
        counter = CounterMetricFamily(f"keymiss_registration_{metric}_total", said, labels=BY_REGISTRATION)
        for node, master in shards:
            for name, figures in master.registrations.items():
                counter.add_metric([node.shard, name], getattr(figures, figure) / a_second)
        yield counter
