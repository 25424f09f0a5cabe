"""docs/metrics.md names every metric that the code makes, its type and labels, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import Metric

from keymiss.api.figures.shard_families import families
from keymiss.api.figures.shard_figures import ClusterFigures
from keymiss.api.metrics import ApiMetrics, Ended, IndexFigures, SentenceEnded, Stage
from keymiss.api.unused import Reason, Signal
from keymiss.cluster.access import ClusterAccess
from keymiss.retrieval import Retrieval
from keymiss.worker.lifecycle import Worker
from keymiss.worker.model_processes.libraries import Libraries
from keymiss.worker.options import WorkerOptions

PAGE = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
OF_SAMPLES = {"le"}  # labels that Prometheus's own format adds


@dataclass(frozen=True)
class Described:
    """A metric, as the page and the code have it."""

    type: str
    labels: frozenset[str]


def documented() -> dict[str, Described]:
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]*)\|", PAGE, re.M)
    assert len(rows) == len({name for name, _, _ in rows}), "no metric is there twice"
    return {name: Described(kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels in rows}


def made() -> Iterator[Metric]:
    """Everything that a scrape of the API and one of a worker can hold."""
    api = ApiMetrics()
    api.request_ended("/livez", "GET", 200, 0.001)
    api.know_shards(["1bz"])
    yield from api.registry.collect()
    yield from IndexFigures(Retrieval()).collect()
    yield from families(ClusterFigures())
    yield from Worker(WorkerOptions(), ClusterAccess(), Libraries("dummy"))._metrics.registry.collect()


def described(metric: Metric) -> tuple[str, Described]:
    ending = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    labels = {label for sample in metric.samples for label in sample.labels} - OF_SAMPLES
    labels.update(getattr(metric, "_labelnames", ()))  # of a family that is made at each scrape
    return metric.name + ending, Described(
        "gauge" if metric.type == "info" else metric.type, frozenset(labels)
    )


def test_the_page_has_every_metric_and_no_other() -> None:
    found = dict(map(described, made()))
    assert {"keymiss_questions_total", "keymiss_shard_workers", "keymiss_worker_jobs_total"} <= set(found)
    assert sorted(set(found) - set(documented())) == [], "not in docs/metrics.md"
    assert sorted(set(documented()) - set(found)) == [], "not in the code"


def test_their_types_and_labels_are_right() -> None:
    page = documented()
    wrong = {name: (code, page[name]) for name, code in map(described, made()) if page[name] != code}
    assert wrong == {}


def test_the_page_has_every_value_of_the_labels_that_are_enumerations() -> None:
    enums = (Ended, SentenceEnded, Stage, Signal, Reason)
    missing = [value for enum in enums for value in enum if f"`{value}`" not in PAGE]
    assert missing == []
