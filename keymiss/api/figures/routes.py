"""GET /metrics, for Prometheus: this process's figures and the shards'. nginx shows it to nobody."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from keymiss.api.figures.shard_families import families
from keymiss.api.figures.shard_figures import ClusterFigures, ShardFigures
from keymiss.api.metrics import ApiMetrics

PATH = "/metrics"
router = APIRouter()


class Scrape(Collector):
    """Everything that one reply holds."""

    def __init__(self, metrics: ApiMetrics, shards: ClusterFigures) -> None:
        self._metrics = metrics
        self._shards = shards

    def collect(self) -> Iterator[Metric]:
        """This process's first."""
        yield from self._metrics.registry.collect()
        yield from families(self._shards)


@router.get(PATH, include_in_schema=False)
async def metrics(request: Request) -> Response:
    """In the text format; every node of the cluster is asked now."""
    figures: ShardFigures = request.app.state.shard_figures
    counted: ApiMetrics = request.app.state.metrics
    body = generate_latest(Scrape(counted, await figures.read()))
    return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)
