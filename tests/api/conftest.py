"""Fixtures of the API's tests: a plain cluster filled beforehand, the API in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.processes import ApiProcess, fill
from tests.servers import RedisClusterServers


@pytest.fixture(scope="module")
def filled() -> Iterator[RedisClusterServers]:
    """Two masters without a worker; every answer is cached already, so that a GET is a hit."""
    with RedisClusterServers(masters=2) as servers:
        fill(servers)
        yield servers


@pytest.fixture(scope="module")
def api(filled: RedisClusterServers) -> Iterator[ApiProcess]:
    """The API in front of `filled`, with every shard indexed."""
    with ApiProcess(filled.addresses, wait_indexed=2) as running:
        yield running
