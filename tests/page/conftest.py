"""The whole site, and a page of it in a browser; both are shared by the folder's tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.api.processes import SILENT_FOR_LONG, ApiProcess, NginxProcess
from tests.page.browser import Seen, launch, opened
from tests.page.filling import MASTERS, fill_for_page
from tests.patience import patient, slower
from tests.servers import RedisClusterServers

NO_VECTORS = {"KEYMISS_API_VECTOR_WEIGHT": "0"}  # nothing makes any
TIME_LIMIT_S = str(slower(2.5))  # over the page's 1.5 s, after which it says what it waits for

expect.set_options(timeout=patient(15) * 1000)


@dataclass(frozen=True)
class Site:
    """The processes behind the page."""

    cluster: RedisClusterServers
    api: ApiProcess
    nginx: NginxProcess

    @property
    def url(self) -> str:
        return self.nginx.url


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """Three masters without a worker, filled by hand; the API; nginx."""
    servers = RedisClusterServers(*SILENT_FOR_LONG, masters=MASTERS)
    env = {"KEYMISS_API_TIME_LIMIT_S": TIME_LIMIT_S, "KEYMISS_API_MIN_SCORE": "0.05", **NO_VECTORS}
    with servers as cluster:
        fill_for_page(cluster)
        with (
            ApiProcess(cluster.addresses, wait_indexed=MASTERS, env=env) as api,
            NginxProcess(api.port) as nginx,
        ):
            yield Site(cluster, api, nginx)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Not for the whole session: while it runs, no other event loop can."""
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[tuple[Page, Seen]]:
    """The page on a desktop. After the test: no error in the console, no request left the origin."""
    with opened(browser, site.url, viewport={"width": 1280, "height": 900}) as (page, seen):
        yield page, seen
        assert seen.errors == []
        assert seen.elsewhere == []


@pytest.fixture
def page(visit: tuple[Page, Seen]) -> Page:
    return visit[0]


@pytest.fixture
def seen(visit: tuple[Page, Seen]) -> Seen:
    return visit[1]
