"""One id from nginx through the API and the shard's job to the worker's log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from keymiss.request_id import HEADER
from tests.api.processes import SENTENCES, ApiProcess, NginxProcess, fill
from tests.api.scraping import lines
from tests.servers import RedisClusterServers, WorkerProcess, wait_until

ALL = 2 * len(SENTENCES)
SCRIPT = """
def answer(record):
    override_reply('{"answer": "viral", "score": 0.9}')

GB(desc='answer').foreach(answer).register(
    prefix='bertspan', mode='async_local', eventTypes=['keymiss'], commands=['get'])
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    """Of this file's own: no answer is there, and none is kept."""
    with RedisClusterServers(masters=2) as running:
        fill(running, question=None)
        yield running


@pytest.fixture(scope="module")
def worker(cluster: RedisClusterServers) -> Iterator[WorkerProcess]:
    with WorkerProcess(cluster, "--backend", "dummy") as running:
        with cluster.client() as client:
            client.execute_command("RG.PYEXECUTE", SCRIPT, target_nodes=client.get_primaries()[0])
        yield running


@pytest.fixture(scope="module")
def api(cluster: RedisClusterServers, worker: WorkerProcess) -> Iterator[ApiProcess]:
    with ApiProcess(cluster.addresses, wait_indexed=2) as running:
        yield running


@pytest.fixture(scope="module")
def nginx(api: ApiProcess) -> Iterator[NginxProcess]:
    with NginxProcess(api.port) as running:
        yield running


def ask(nginx: NginxProcess, headers: dict[str, str]) -> str:
    """Returns the reply's id."""
    reply = httpx.post(
        f"{nginx.url}/qasearch", json={"search": "Viral load"}, headers=headers, verify=False, timeout=30
    )
    assert reply.status_code == 200, reply.text
    assert len(reply.headers.get_list(HEADER)) == 1
    return str(reply.headers[HEADER])


def jobs(worker: WorkerProcess, request_id: str) -> list[dict[str, Any]]:
    return [line for line in lines(worker) if request_id in line.get("request_ids", ())]


def accesses(nginx: NginxProcess, request_id: str) -> list[str]:
    """Paths of the requests of that id in nginx's log."""
    written = [json.loads(line) for line in (nginx.folder / "nginx-access.log").read_text().splitlines()]
    return [line["path"] for line in written if line["request_id"] == request_id]


@pytest.mark.parametrize("given", ["followed-through.1", None, "not usable!"])
def test_every_log_has_the_id(
    nginx: NginxProcess, api: ApiProcess, worker: WorkerProcess, given: str | None
) -> None:
    request_id = ask(nginx, {HEADER: given} if given else {})
    if given == "followed-through.1":
        assert request_id == given
    else:
        assert len(request_id) == 32
    wait_until(lambda: accesses(nginx, request_id) == ["/qasearch"], 10, "nginx's line, after the reply")
    (question,) = lines(api, "question")[-1:]
    assert (question["request_id"], question["outcome"]) == (request_id, "answered")
    done = wait_until(
        lambda: len(found := jobs(worker, request_id)) >= ALL and found, 10, "a line for each job"
    )
    assert {line["status"] for line in done} == {"done"}
    assert len({line["key"] for line in done}) == len(done) == ALL


def test_the_metrics_are_not_shown_by_nginx(nginx: NginxProcess, api: ApiProcess) -> None:
    assert httpx.get(f"{api.url}/metrics").status_code == 200
    assert httpx.get(f"{nginx.url}/metrics", verify=False).status_code == 404
