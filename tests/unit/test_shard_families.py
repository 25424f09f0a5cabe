"""The shards' figures as metrics: the tables name every figure of the module; others are exported too."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.core import Metric

from keymiss.api.figures.shard_families import COUNTERS, GAUGES, families
from keymiss.api.figures.shard_figures import ClusterFigures, MasterFigures, NodeFigures, RegistrationFigures

ROOT = Path(__file__).resolve().parents[2]


def figures(**stats: int) -> ClusterFigures:
    master = MasterFigures(
        stats,
        edges_waiting=3,
        graph_concepts=None,
        models={"bert-qa": {"calls": 4, "errors": 1, "samples": 8, "duration": 2_500_000}},
        registrations={"answer": RegistrationFigures(5, 3, 1, 1, 1500)},
    )
    nodes = (
        NodeFigures("a:1", True, "master", "1bz", master),
        NodeFigures("a:2", False, "replica", "1bz"),
        NodeFigures("a:3", False),
    )
    return ClusterFigures(nodes, 16384, 1)


def by_name(given: ClusterFigures) -> dict[str, Metric]:
    return {family.name: family for family in families(given)}


def samples(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_every_figure_of_the_module_is_in_a_table() -> None:
    """Else a counter would be exported as a gauge."""
    header = (ROOT / "module/core.h").read_text().partition("#define KM_COUNTERS")[2].partition("typedef")[0]
    counters = re.findall(r"X\((\w+),", header)
    now = re.findall(r'add\(arg, "(\w+)"', (ROOT / "module/info.c").read_text())
    assert {"filter_hits", "derived_removed"} <= set(counters)
    assert {"workers", "derived_stale"} <= set(now)
    assert set(COUNTERS) == set(counters)
    assert set(GAUGES) == set(now)


def test_figures_in_base_units() -> None:
    found = by_name(figures(workers=2, oldest_job_ms=1500, jobs_done=7))
    assert samples(found["keymiss_shard_workers"]) == {("1bz", "a:1"): 2}
    assert samples(found["keymiss_shard_oldest_job_seconds"]) == {("1bz", "a:1"): 1.5}
    done = found["keymiss_shard_jobs_done"]
    assert (done.type, [sample.name for sample in done.samples]) == (
        "counter",
        ["keymiss_shard_jobs_done_total"],
    )
    assert samples(found["keymiss_model_duration_seconds"]) == {("1bz", "bert-qa"): 2.5}
    assert samples(found["keymiss_registration_duration_seconds"]) == {("1bz", "answer"): 1.5}
    assert samples(found["keymiss_registration_done"]) == {("1bz", "answer"): 3}


def test_what_a_node_does_not_say_is_no_sample() -> None:
    found = by_name(figures())
    assert samples(found["keymiss_shard_jobs_done"]) == {}
    assert samples(found["keymiss_shard_edges_waiting"]) == {("1bz", "a:1"): 3}
    assert samples(found["keymiss_shard_graph_concepts"]) == {}


def test_a_figure_that_no_table_knows_is_a_gauge() -> None:
    family = by_name(figures(of_a_newer_module=9))["keymiss_shard_of_a_newer_module"]
    assert (family.type, samples(family)) == ("gauge", {("1bz", "a:1"): 9})


def test_nodes() -> None:
    found = by_name(figures())
    assert samples(found["keymiss_node_up"]) == {("a:1",): 1, ("a:2",): 0, ("a:3",): 0}
    assert samples(found["keymiss_node_info"]) == {("a:1", "master", "1bz"): 1, ("a:2", "replica", "1bz"): 1}
    assert samples(found["keymiss_cluster_slots_covered"]) == {(): 16384}
    assert samples(found["keymiss_cluster_shards"]) == {(): 1}


def test_without_any_node_the_metrics_are_there_without_samples() -> None:
    assert set(by_name(ClusterFigures())) == set(by_name(figures()))
