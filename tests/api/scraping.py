"""GET /metrics, read as Prometheus reads it; and logs, read line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.patience import patient
from tests.servers import Process


@dataclass(frozen=True)
class Scraped:
    """The samples of one scrape, by name and labels."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """Of exactly these labels; None when there is no such sample."""
        return self.samples.get((name, frozenset(labels.items())))

    def since(self, before: Scraped) -> Scraped:
        """How much each sample has grown."""
        return Scraped({at: value - before.samples.get(at, 0) for at, value in self.samples.items()})

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples that have these labels among others."""
        return sum(self.by(name, **labels).values())

    def by(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """Those samples, by all their labels."""
        wanted = frozenset(labels.items())
        return {at: value for (each, at), value in self.samples.items() if each == name and wanted <= at}

    def values_of(self, name: str, label: str) -> dict[str, float]:
        """By the value of one label."""
        return {dict(at)[label]: value for at, value in self.by(name).items()}


def scrape(url: str) -> Scraped:
    """Fails when a sample comes twice, or the reply cannot be read."""
    reply = httpx.get(f"{url}/metrics", timeout=patient(10))
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            at = (sample.name, frozenset(sample.labels.items()))
            assert at not in samples, f"twice: {at}"
            samples[at] = sample.value
    return Scraped(samples)


def lines(process: Process, event: str | None = None) -> list[dict[str, Any]]:
    """The log's lines, each of which must be one JSON object; of one event, if it is named."""
    found = [json.loads(line) for line in process.log_text().splitlines()]
    for each in found:
        assert {"t", "level", "event"} <= each.keys(), each
    return [each for each in found if event in (None, each["event"])]
