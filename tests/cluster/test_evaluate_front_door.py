"""`keymiss models evaluate front-door` on a real cluster with a real API: its figures, and that nothing of it
stays, in the graph neither."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.models import evaluate, load, load_encoder
from tests.api.processes import ApiProcess
from tests.cluster.pipeline import (
    SCRIPTS,
    Keyspace,
    differences,
    graph,
    keyspace,
    settle,
    store_table,
    upload,
    write,
)
from tests.cluster.pipeline import table as concept_table
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, WorkerProcess, wait_until
from tests.unit.test_evaluate import ASKED, HILLS, RIVER
from tests.unit.test_squad import put, qa

BRIDGE = "Who bridged the Amble?"


@pytest.fixture(scope="module")
def client(cluster: RedisClusterServers, cluster_worker: WorkerProcess) -> Iterator[RedisCluster]:
    """A client of a cluster with models, functions, a concept table and an article of somebody else's."""
    assert load.main(["--model", "models/reader", "--nodes", cluster.addresses]) == 0
    assert load_encoder.main(["--nodes", cluster.addresses]) == 0
    with cluster.client(decode_responses=True, encoding_errors="surrogateescape") as made:
        store_table(made, concept_table("C1,river,", "C2,fish,trout|pike", "C3,hill,"))
        upload(made, *SCRIPTS, "qa.py", "vectors.py", "question_vector.py")
        write(made, "other", "The river Wend was bridged by somebody else. That river has no trout.")
        settle(made)
        yield made


@pytest.fixture(scope="module")
def api(cluster: RedisClusterServers, client: RedisCluster) -> Iterator[ApiProcess]:
    limits = {"KEYMISS_API_TIME_LIMIT_S": "20", "KEYMISS_API_VECTOR_TIME_LIMIT_S": "20"}
    with ApiProcess(cluster.addresses, wait_indexed=1, env=limits) as process:
        yield process


@pytest.fixture
def file(tmp_path: Path) -> Path:
    river = RIVER.replace(". It", ".\n\nIt") + " The trout of that river is no pike, whatever the fish."
    return put(tmp_path, [(river, _asked_of(river))], [(HILLS, ASKED[HILLS])], name="two_articles.json")


def _asked_of(river: str) -> list[dict[str, Any]]:
    return [
        qa(BRIDGE, ("Ada Moore", river.index("Ada")), id="1"),
        qa("When was the river bridged?", ("1894", river.index("1894")), id="2"),
    ]


def there(servers: RedisClusterServers) -> Keyspace:
    """All but the models and the concept table, with what is in it."""
    return keyspace(servers, "bert-", "concept-table:")


def command(cluster: RedisClusterServers, api: ApiProcess, *more: str | Path) -> list[str]:
    return ["front-door", "--nodes", cluster.addresses, "--url", api.url, "--part", "all", *map(str, more)]


def test_figures_and_nothing_stays(
    cluster: RedisClusterServers,
    client: RedisCluster,
    api: ApiProcess,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, edges, out = there(cluster), graph(client), tmp_path / "out.json"
    cached = keys.span_key("other", keys.article_tag("other"), 0, BRIDGE.lower())
    assert client.get(cached)  # its answer is cached, and read anew
    assert evaluate.main(command(cluster, api, "--refusal", "--json", out, file)) == 0
    found = json.loads(out.read_text())["files"]["two_articles"]
    assert [found[name] for name in ("articles", "sentences", "questions", "failed", "competing")] == [
        2, 7, 3, 0, 1,
    ]  # fmt: skip
    assert (found["right_read"], found["sentences_late"], found["unused"]) == (100, 0, {})
    assert found["right_1"] <= found["right_5"] <= found["right_shown"]
    assert found["right_shown"] + found["refused"] == pytest.approx(100)
    assert found["right_1"] > 50
    assert found["p50_ms"] <= found["p95_ms"]
    assert found["unanswerable"] == 3
    refused = [row["unanswerable_refused"] for row in found["thresholds"]]
    assert refused == sorted(refused)
    asked = {one["id"]: one for one in found["asked"]}
    assert asked["1"]["right"][0]["sentence"] == "It was bridged by Ada Moore in 1894."
    assert asked["3"]["expected"] == ["Cold Top"]
    assert "1 articles that were loaded before compete" in capsys.readouterr().out
    assert differences(there(cluster), before) == []
    assert graph(client) == edges != {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["paragraphs:evaluate-*", "bertspan*_evaluate-*"])
def test_interrupted_it_leaves_nothing_behind(
    cluster: RedisClusterServers,
    client: RedisCluster,
    api: ApiProcess,
    tmp_path: Path,
    number: int,
    when: str,
) -> None:
    """While the articles are on their way in, and while questions are asked."""
    asked = [qa(f"Who bridged river {n}?", ("Ada", RIVER.index("Ada"))) for n in range(3000)]
    path = put(tmp_path, *[[(f"{RIVER} That was number {n}.", asked)] for n in range(4)])
    before = there(cluster)
    process = subprocess.Popen(
        [sys.executable, "-m", "keymiss.models.evaluate", *command(cluster, api, path)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run in the background of a shell ignores SIGINT, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until(lambda: client.keys(when, target_nodes=RedisCluster.PRIMARIES), 60, when)
        process.send_signal(number)
        _, said = process.communicate(timeout=patient(60))
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "keymiss models evaluate: interrupted\n")
    assert differences(there(cluster), before) == []


def test_without_an_api_nothing_is_written(
    cluster: RedisClusterServers, client: RedisCluster, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = there(cluster)
    arguments = ["front-door", "--nodes", cluster.addresses, "--url", "http://127.0.0.1:1", str(file)]
    assert evaluate.main(arguments) == 1
    assert "there is no API at http://127.0.0.1:1" in capsys.readouterr().err
    assert differences(there(cluster), before) == []


def test_without_functions_it_says_what_to_do(
    cluster: RedisClusterServers,
    client: RedisCluster,
    api: ApiProcess,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last test of this file: it unregisters the functions."""
    before = there(cluster)
    for node in client.get_primaries():
        for registration in client.execute_command("RG.DUMPREGISTRATIONS", target_nodes=node):
            fields = dict(zip(registration[::2], registration[1::2], strict=True))
            client.execute_command("RG.UNREGISTER", fields["id"], target_nodes=node)
    assert evaluate.main(command(cluster, api, file)) == 1
    assert "no function splits articles into sentences: keymiss gears upload" in capsys.readouterr().err
    assert differences(there(cluster), before) == []
