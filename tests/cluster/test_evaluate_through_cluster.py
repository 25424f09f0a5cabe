"""An evaluation through a real cluster and a real API: its figures, and that it leaves nothing behind."""

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
from keymiss.models import evaluate, load
from tests.api.processes import ApiProcess
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, WorkerProcess, tags_of, wait_until
from tests.unit.test_evaluate import ASKED, HILLS, RIVER
from tests.unit.test_squad import put, qa


@pytest.fixture(scope="module")
def client(cluster: RedisClusterServers, cluster_worker: WorkerProcess) -> Iterator[RedisCluster]:
    """A client of a cluster with the reader, the functions, and a sentence of somebody else's."""
    assert load.main(["--model", "models/reader", "--nodes", cluster.addresses]) == 0
    with cluster.client(decode_responses=True) as made:
        for name in ("tokenize.py", "qa.py"):
            source = (REPO / "gears" / name).read_text()
            assert made.execute_command("RG.PYEXECUTE", source, target_nodes=made.get_primaries()[0]) == "OK"
        tag = tags_of(made)[0]
        made.hset(keys.sentence_key("other", tag), "0", "The Amble was bridged by somebody else.")
        made.get(keys.answer_key("other", tag, 0, "Who bridged the Amble?"))
        wait_until(lambda: made.exists(keys.tokenized_key("other", tag, 0)), 20)
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return put(tmp_path, [(RIVER, ASKED[RIVER])], [(HILLS, ASKED[HILLS])], name="two_articles.json")


def everything(client: RedisCluster) -> set[str]:
    return set(client.keys("*", target_nodes=RedisCluster.PRIMARIES))


def evaluated(arguments: list[str], out: Path) -> dict[str, Any]:
    assert evaluate.main([*arguments, "--part", "all", "--json", str(out)]) == 0
    figures: dict[str, Any] = json.loads(out.read_text())["files"]["two_articles"]
    return figures


def test_the_cluster_answers_as_the_eager_model(
    cluster: RedisClusterServers,
    client: RedisCluster,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, out = everything(client), tmp_path / "out.json"
    arguments = ["cluster", "--nodes", cluster.addresses, str(file)]
    there = evaluated([*arguments, "--against", "eager", "--model", "models/reader"], out)
    assert "the same answer to 4 of 4 questions (100.0 %)" in capsys.readouterr().out
    here = evaluated(["eager", "--model", "models/reader", str(file)], out)
    assert there.pop("same_answer") == 100
    assert (there.pop("ms") > 0, here.pop("ms") > 0) == (True, True)
    assert there == here
    assert (there["questions"], there["failed"]) == (3, 0)
    assert there["exact"] > 50
    assert everything(client) == before


def test_through_the_api(
    cluster: RedisClusterServers,
    client: RedisCluster,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = everything(client)
    with ApiProcess(cluster.addresses, wait_indexed=2) as api:
        arguments = ["retrieval", "--nodes", cluster.addresses, "--url", api.url, str(file)]
        found = evaluated(arguments, tmp_path / "out.json")
    assert (found["questions"], found["failed"], found["competing"]) == (3, 0, 1)
    assert found["recall_20"] == 100
    assert found["recall_1"] <= found["recall_5"] <= found["recall_20"]
    assert 1 <= found["results"] <= found["asked"] <= 10
    assert "1 articles that were loaded before compete" in capsys.readouterr().out
    assert everything(client) == before


def test_without_an_api_nothing_is_written(
    cluster: RedisClusterServers, client: RedisCluster, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(client)
    arguments = ["--url", "http://127.0.0.1:1", str(file)]
    assert evaluate.main(["retrieval", "--nodes", cluster.addresses, *arguments]) == 1
    assert "there is no API at http://127.0.0.1:1" in capsys.readouterr().err
    assert everything(client) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(
    cluster: RedisClusterServers, client: RedisCluster, tmp_path: Path, number: int
) -> None:
    asked = [
        qa(f"Who bridged the river, for the {n}th time?", ("Ada", RIVER.index("Ada"))) for n in range(5000)
    ]
    path = put(tmp_path, [(RIVER, asked)])
    before = everything(client)
    command = [sys.executable, "-m", "keymiss.models.evaluate", "cluster", "--nodes", cluster.addresses]
    process = subprocess.Popen(
        [*command, str(path), "--part", "all"],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run in the background of a shell ignores SIGINT, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until(lambda: len(everything(client) - before) > 6, 60, "it asks and answers are kept")
        process.send_signal(number)
        _, said = process.communicate(timeout=patient(40))
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "keymiss models evaluate: interrupted\n")
    assert everything(client) == before


def test_without_functions_it_says_what_to_do(
    cluster: RedisClusterServers, client: RedisCluster, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last test of this file: it unregisters the functions."""
    before = everything(client)
    for node in client.get_primaries():
        for registration in client.execute_command("RG.DUMPREGISTRATIONS", target_nodes=node):
            fields = dict(zip(registration[::2], registration[1::2], strict=True))
            client.execute_command("RG.UNREGISTER", fields["id"], target_nodes=node)
    assert evaluate.main(["cluster", "--nodes", cluster.addresses, str(file), "--part", "all"]) == 1
    assert "no function answers bertspan" in capsys.readouterr().err
    assert everything(client) == before
