"""`keymiss concepts load`: the table on every shard, broken rows named, exit codes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.corpus.concept_table import ConceptTable
from tests.cluster import pipeline
from tests.servers import REPO, RedisClusterServers, tags_of

GOOD = "id,name,synonyms\nC1,influenza,flu|influenza virus\nC2,fever,\n"
BROKEN = """id,name,synonyms
C1,influenza,flu
,no id,
C 2,an id with a blank,
C3,,synonym without a name
C4,fever
C1,the id again,
C5,cough,influenza|coughing
C6,"a quote that is not closed,
C7,pneumonia,
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=3, module=False) as running:
        yield running


@pytest.fixture
def client(servers: RedisClusterServers) -> Iterator[RedisCluster]:
    with servers.client(decode_responses=True) as made:
        made.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield made


def load(servers: RedisClusterServers, folder: Path, text: str | bytes) -> subprocess.CompletedProcess[str]:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return pipeline.cli(servers, "concepts", "load", path)


def stored(client: RedisCluster) -> list[dict[str, str]]:
    """What each shard has."""
    shards = tags_of(client)
    return [dict[Any, Any](client.hgetall(keys.concept_table_key(tag))) for tag in shards]


def test_a_table_is_stored_on_every_shard(
    servers: RedisClusterServers, client: RedisCluster, tmp_path: Path
) -> None:
    done = load(servers, tmp_path, GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    table = ConceptTable.from_csv_text(GOOD)
    assert done.stdout == f"2 concepts, 2 synonyms; 0 rows left out, 0 faults; sha256 {table.digest[:12]}\n"
    assert stored(client) == [{"sha256": table.digest, "csv": table.csv_text}] * 3
    for tag in tags_of(client):
        assert f"{{{tag}}}" in keys.concept_table_key(tag)
    assert len({servers.server_of(keys.concept_table_key(tag)).port for tag in tags_of(client)}) == 3


def test_the_same_table_again_is_not_written(
    servers: RedisClusterServers, client: RedisCluster, tmp_path: Path
) -> None:
    load(servers, tmp_path, GOOD)
    before = writes(servers)
    same = "id,name,synonyms\r\nC2,fever,\r\nC1,influenza,flu|influenza virus"
    assert load(servers, tmp_path, same).returncode == 0
    assert writes(servers) == before


def writes(servers: RedisClusterServers) -> list[int]:
    """How many changes each shard has seen."""
    found = []
    for server in servers.masters:
        with server.client() as client:
            found.append(client.info("persistence")["rdb_changes_since_last_save"])
    return found


def test_broken_rows_are_named_and_the_others_load(
    servers: RedisClusterServers, client: RedisCluster, tmp_path: Path
) -> None:
    done = load(servers, tmp_path, BROKEN)
    assert done.returncode == 1
    path = tmp_path / "table.csv"
    lines = done.stderr.splitlines()
    assert all(line.startswith(f"{path}: line ") for line in lines)
    assert [line.removeprefix(f"{path}: line ").split(",")[0] for line in lines] == list("3456789")
    assert "(left out)" in lines[0]
    assert "'influenza' is of C1 already (loaded in part)" in done.stderr
    assert done.stdout.startswith("3 concepts, 2 synonyms; 6 rows left out, 7 faults; sha256 ")
    (table,) = {one["csv"] for one in stored(client)}
    assert table == "id,name,synonyms\nC1,influenza,flu\nC5,cough,coughing\nC7,pneumonia,\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no header"),
        ("id;name;synonyms\nC1;influenza;flu\n", "must have one column id"),
        ("id,name,synonyms\n", "has no row that can be used"),
        ("id,name,synonyms\n,,\n", "has no row that can be used"),
        (b"id,name,synonyms\nC1,gr\xfcn,\n", "is not in UTF-8"),
    ],
)
def test_a_file_without_a_table_leaves_the_old_one(
    servers: RedisClusterServers, client: RedisCluster, tmp_path: Path, text: str | bytes, says: str
) -> None:
    load(servers, tmp_path, GOOD)
    before = stored(client)
    done = load(servers, tmp_path, text)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert stored(client) == before


def test_a_file_that_is_not_there(servers: RedisClusterServers, tmp_path: Path) -> None:
    done = pipeline.cli(servers, "concepts", "load", tmp_path / "nowhere.csv")
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path / 'nowhere.csv'}: No such file or directory\n"


def test_the_table_of_the_sample_loads_without_a_fault(
    servers: RedisClusterServers, client: RedisCluster
) -> None:
    done = pipeline.cli(servers, "concepts", "load", REPO / "data" / "sample" / "concepts.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[0]) >= 300
    assert [one["sha256"] for one in stored(client)] == [pipeline.sample_table().digest] * 3


def test_the_functions_follow_a_loaded_table(tmp_path: Path) -> None:
    with pipeline.running() as (servers, _, client):
        for name in ("A1", "A2", "A3"):
            pipeline.write(client, name, "Influenza often begins with fever.", year=2020)
        pipeline.settle(client)
        assert pipeline.graph(client) == {}
        assert load(servers, tmp_path, GOOD).returncode == 0
        assert pipeline.cli(servers, "wait").returncode == 0
        assert pipeline.years(client) == {"2020": 3}
