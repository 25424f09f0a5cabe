"""Debian's Prometheus as a process of the tests: it measures itself and whatever else it is told to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Self

import httpx

from tests.api.processes import Running
from tests.patience import patient
from tests.servers import free_port, wait_until

EVERY = "1s"


class PrometheusProcess(Running):
    """A Prometheus on a free port. targets: job -> host:port, besides itself (job "prometheus")."""

    def __init__(self, targets: Mapping[str, str] | None = None) -> None:
        super().__init__("prometheus")
        self.port = free_port()
        self.targets = {"prometheus": f"127.0.0.1:{self.port}", **(targets or {})}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        binary = shutil.which("prometheus")
        if binary is None:
            raise RuntimeError(
                "these tests need Prometheus: apt-get install --no-install-recommends prometheus"
            )
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [target]}]}
            for job, target in self.targets.items()
        ]
        config = self.folder / "prometheus.yml"  # JSON is YAML
        config.write_text(
            json.dumps(
                {"global": {"scrape_interval": EVERY, "scrape_timeout": EVERY}, "scrape_configs": jobs}
            )
        )
        self.spawn(
            [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ]
        )
        wait_until(lambda: self.value("count(up == 1)") == len(self.targets), 30, "everything is measured")
        return self

    def value(self, query: str) -> float | None:
        """The value of a query with one result, now; None without one."""
        assert self.alive, self.tail()
        try:
            reply = httpx.post(f"{self.url}/api/v1/query", data={"query": query}, timeout=patient(10))
        except httpx.TransportError:
            return None
        if reply.status_code != 200:
            return None  # it is starting
        found = reply.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None
