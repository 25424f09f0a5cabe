"""Figures of `keymiss status`: short texts, and rates between two looks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keymiss.cli.status_figures import Rates, age, count, rate, size
from keymiss.cli.status_nodes import ClusterStatus, ModelStatus, NodeStatus

MODEL = ModelStatus("bert-qa", "TORCH", "abc", calls=10, errors=0, samples=10, duration_us=100_000)
NODE = NodeStatus("a:1", run_id="x", commands=100, stats={"filter_hits": 5, "jobs_done": 7}, models=(MODEL,))


def look(t: float, *nodes: NodeStatus) -> ClusterStatus:
    return ClusterStatus(t, "ok", 16384, nodes)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (count(0), "0"),
        (count(9999), "9999"),
        (count(12_345), "12.3k"),
        (count(999_999), "1.00M"),
        (size(999), "999"),
        (size(1_200_000_000), "1.20G"),
        (size(45_100), "45.1k"),
        (rate(0), "0"),
        (rate(0.34), "0.3"),
        (rate(12.3), "12"),
        (rate(1234), "1.23k"),
        (age(0), "0"),
        (age(120), "120 ms"),
        (age(3400), "3.4 s"),
        (age(720_000), "12 min"),
        (age(3 * 3_600_000), "3 h"),
    ],
)
def test_short_texts(text: str, wanted: str) -> None:
    assert text == wanted


def test_rates_between_two_looks() -> None:
    model = replace(MODEL, calls=14, duration_us=180_000)
    now = replace(NODE, commands=300, stats={"filter_hits": 9, "jobs_done": 7}, models=(model,))
    rates = Rates.between(look(10.0, NODE), look(12.0, now))
    assert rates.of == {"a:1": {"ops": 100.0, "hits": 2.0, "done": 0.0}}
    found = rates.models["a:1", "bert-qa"]
    assert (found.calls_per_s, found.mean_ms) == (2.0, 20.0)


def test_a_restarted_or_new_node_has_no_rates() -> None:
    assert Rates.between(None, look(1.0, NODE)) == Rates()
    assert Rates.between(look(1.0, NODE), look(2.0, replace(NODE, run_id="y"))) == Rates()
    down = NodeStatus("a:1", "connection refused")
    assert Rates.between(look(1.0, NODE), look(2.0, down)) == Rates()
    assert Rates.between(look(1.0, down), look(2.0, NODE)) == Rates()


def test_figures_that_were_reset_are_no_negative_rates() -> None:
    now = replace(NODE, commands=3, models=(replace(MODEL, calls=0, duration_us=0),))
    rates = Rates.between(look(1.0, NODE), look(2.0, now))
    assert rates.of["a:1"]["ops"] == 0
    assert rates.models["a:1", "bert-qa"].mean_ms is None


def test_what_does_not_run_is_said() -> None:
    master = replace(NODE, role="master", shard="1bz", slots=16384, stats={"workers": 1})
    assert look(1.0, master).problems == []
    assert look(1.0, replace(master, stats={"workers": 0})).problems == ["no worker at {1bz}"]
    replica = NodeStatus("a:2", role="replica", link="down")
    assert look(1.0, master, replica).problems == ["a:2 has lost its master"]
    lost = replace(look(1.0, master), state="fail", slots_covered=16000)
    assert lost.problems == [
        "the cluster is down (cluster_state:fail)",
        "384 slots have no master",
    ]
    away = NodeStatus("a:2", "no answer within 2 s")
    assert look(1.0, master, away).problems == ["a:2 is down: no answer within 2 s"]
    assert replace(look(1.0, away), state="fail", slots_covered=0).problems == [
        "a:2 is down: no answer within 2 s"
    ]
