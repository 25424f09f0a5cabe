"""The committed queries, asked of Prometheus: within a time limit, a size limit, and eight at once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

import httpx
from pydantic_core import from_json

from keymiss.api.http.problems import PrometheusAway, PrometheusFailed, PrometheusLate

TIME_LIMIT_S = 5.0
CONNECT_LIMIT_S = 2.0
AT_ONCE = 8
MAX_REPLY_BYTES = 4 * 1024 * 1024
"""A query of the dashboards answers with some kilobytes; 240 points of 500 series are 3 MB."""
MAX_SAID_CHARACTERS = 300
HOW_TO_START = "start the system with: scripts/start.sh --observe"

Value = float | None
"""None: no sample, or one that is not a finite number."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The times of a range query, in seconds: ``start_s``, then every ``step_s`` up to ``end_s``."""

    start_s: int
    end_s: int
    step_s: int

    @property
    def times(self) -> range:
        return range(self.start_s, self.end_s + 1, self.step_s)


@dataclass(frozen=True, slots=True)
class Series:
    """What a query found: labels, and (time, value) in the order of time."""

    labels: dict[str, str]
    points: list[tuple[float, Value]]


class Prometheus:
    """The server at ``url`` (http or https, with ``user:password@`` where it wants them)."""

    def __init__(self, url: str) -> None:
        # httpx logs each request at INFO: sixty lines a refresh, where the service logs its own requests.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        whole = httpx.URL(url)
        self.named = str(whole.copy_with(userinfo=b""))
        self._client = httpx.AsyncClient(
            base_url=whole.copy_with(userinfo=b""),
            auth=(whole.username, whole.password) if whole.userinfo else None,
            timeout=httpx.Timeout(TIME_LIMIT_S, connect=CONNECT_LIMIT_S, pool=None),
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
            trust_env=False,  # no proxy: it is a server of this system
        )
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        await self._client.aclose()

    async def over(self, expr: str, grid: Grid) -> list[Series]:
        """A range query; every series has one point for each time of the grid. Raises a Problem."""
        wanted = {"query": expr, "start": grid.start_s, "end": grid.end_s, "step": grid.step_s}
        return [
            _on_grid(one["metric"], one["values"], grid) for one in await self._ask("query_range", wanted)
        ]

    async def now(self, expr: str, at_s: float) -> list[Series]:
        """An instant query; every series has one point. Raises a Problem."""
        found = await self._ask("query", {"query": expr, "time": at_s})
        return [Series(one["metric"], [(float(one["value"][0]), _number(one["value"][1]))]) for one in found]

    async def _ask(self, what: str, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The result of a query, a matrix or a vector; a scalar is a series without labels."""
        async with self._turns:
            try:
                async with asyncio.timeout(TIME_LIMIT_S):
                    reply = await self._read(what, {**wanted, "timeout": f"{TIME_LIMIT_S:g}s"})
            except (TimeoutError, httpx.ReadTimeout):
                raise PrometheusLate(f"Prometheus did not answer within {TIME_LIMIT_S:g} s") from None
            except httpx.TransportError:
                raise PrometheusAway(
                    f"Prometheus cannot be reached at {self.named}; {HOW_TO_START}"
                ) from None
        data = reply["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        found: list[dict[str, Any]] = data["result"]
        return found

    async def _read(self, what: str, form: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a reply that says success. POST: a query may be longer than an address."""
        body = bytearray()
        async with self._client.stream("POST", f"api/v1/{what}", data=form) as reply:
            async for chunk in reply.aiter_bytes():
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    raise PrometheusFailed(
                        f"the query found more than {MAX_REPLY_BYTES} bytes; ask for a shorter range"
                    )
        try:
            said = from_json(bytes(body))
        except (ValueError, JSONDecodeError):
            said = None
        if not isinstance(said, dict) or said.get("status") not in ("success", "error"):
            raise PrometheusFailed(
                f"what answers at {self.named} is not Prometheus (status {reply.status_code}); "
                "set KEYMISS_API_PROMETHEUS_URL to its address"
            )
        if said["status"] == "error":
            text = str(said.get("error", "no reason given"))[:MAX_SAID_CHARACTERS]
            raise PrometheusFailed(f"Prometheus refused the query: {text}")
        return said


def _number(text: str) -> Value:
    """A sample's text; NaN and the infinities are no values, as JSON has none."""
    value = float(text)
    return value if math.isfinite(value) else None


def _on_grid(labels: dict[str, str], values: list[list[Any]], grid: Grid) -> Series:
    """Prometheus leaves out the times without a sample: they become None."""
    found = {round(float(time_s)): _number(text) for time_s, text in values}
    return Series(labels, [(time_s, found.get(time_s)) for time_s in grid.times])
