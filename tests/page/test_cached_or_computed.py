"""An answer that a function computes says so the first time, and is cached the second time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from keymiss.keys import sentence_key
from tests.api.processes import ApiProcess, NginxProcess, shard_tags
from tests.page.browser import ask, opened
from tests.servers import RedisClusterServers, WorkerProcess

FUNCTION = """
import json

def answer(record):
    execute('SET', record['key'], json.dumps({'answer': 'masks', 'score': 0.7, 'start': 0, 'end': 5}))
    override_reply(execute('GET', record['key']))

GB(desc='answers').map(answer).register(
    prefix='bertspan*', mode='async_local', eventTypes=['keymiss'], commands=['get'])
"""


@pytest.fixture
def computing() -> Iterator[NginxProcess]:
    """One shard with the module and a worker; its function needs no model."""
    with RedisClusterServers(masters=1) as cluster, WorkerProcess(cluster):
        with cluster.client() as client:
            client.hset(sentence_key("KM0001", shard_tags(1)[0]), "0", "masks reduce the spread of viruses.")
            node = client.get_primaries()[0]
            assert client.execute_command("RG.PYEXECUTE", FUNCTION, target_nodes=node) == b"OK"
        with ApiProcess(cluster.addresses, wait_indexed=1) as api, NginxProcess(api.port) as nginx:
            yield nginx


def test_computed_then_cached(browser: Browser, computing: NginxProcess) -> None:
    with opened(browser, computing.url) as (page, seen):
        for made in ("computed", "cached"):
            ask(page, "What reduces the spread of viruses?")
            expect(page.locator("li.answer mark")).to_have_text("masks")
            expect(page.locator(".made")).to_have_text(made)
            expect(page.locator("cite")).to_have_text("KM0001")
            page.reload()
        assert seen.errors == []
