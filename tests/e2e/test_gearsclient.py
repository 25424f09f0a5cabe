"""gearsclient 1.0.2 of the project's own environment, and the programs of docs/clients.md that use .venv."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
import redis
from gearsclient import GearsRemoteBuilder, execute, hashtag

from keymiss import keys
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers

pytestmark = pytest.mark.usefixtures("cluster_worker")

PROGRAM_TIMEOUT_S = 60


def documented(name: str) -> str:
    """The program `name` of docs/clients.md, exactly as it stands there."""
    found = re.findall(
        rf"<!-- example: {re.escape(name)} -->\n```python\n(.*?)^```$",
        (REPO / "docs" / "clients.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    assert len(found) == 1, f"docs/clients.md has {len(found)} programs named {name}"
    return str(found[0])


def run_documented(
    name: str, python: Path | str, folder: Path, *args: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program of docs/clients.md as a user would: from a file, elsewhere than in the repository."""
    file = folder / name
    file.write_text(documented(name))
    return subprocess.run(
        [str(python), str(file), *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=patient(PROGRAM_TIMEOUT_S),
    )


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Functions of this file travel whole: the worker cannot import it by this name."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def shard(cluster: RedisClusterServers) -> Iterator[redis.Redis]:
    """A connection to one master of an emptied cluster."""
    with cluster.client() as client:
        client.flushall(target_nodes=client.PRIMARIES)
    with cluster.masters[1].client() as made:
        yield made


def test_the_documented_program_counts_keys_per_shard(cluster: RedisClusterServers, tmp_path: Path) -> None:
    with cluster.client() as client:
        client.flushall(target_nodes=client.PRIMARIES)
        tags = [keys.tag_for_slot(slot) for slot in (0, 8192)]
        for number in range(30):
            client.set(f"{{{tags[0]}}}:{number}", "x")
        for number in range(7):
            client.set(f"{{{tags[1]}}}:{number}", "x")
    ran = run_documented("count_keys.py", sys.executable, tmp_path, str(cluster.masters[0].port))
    assert ran.returncode == 0, ran.stderr
    expected = sorted([(tags[0], 30), (tags[1], 7)])
    assert ran.stdout.splitlines() == [f"shard {tag}: {count} keys" for tag, count in expected]
    assert ran.stderr == ""


def test_records_come_back_as_python_objects(shard: redis.Redis) -> None:
    shards, errors = (
        GearsRemoteBuilder("ShardsIDReader", r=shard)
        .map(lambda node: {"node": node, "tag": hashtag(), "raw": b"\xff", "none": None})
        .run()
    )
    assert errors == []
    assert {record["tag"] for record in shards} == {keys.tag_for_slot(slot) for slot in (0, 8192)}
    assert all(record["raw"] == b"\xff" and record["none"] is None for record in shards)
    assert len({record["node"] for record in shards}) == 2


def test_keys_of_a_pattern_over_all_shards(cluster: RedisClusterServers, shard: redis.Redis) -> None:
    with cluster.client() as client:
        for number in range(40):
            client.set(f"n:{number}", number)
        client.set("other", "x")
    assert GearsRemoteBuilder(r=shard).count().run("n:*") == ([40], [])
    even = GearsRemoteBuilder(r=shard).map(lambda record: int(record["value"])).filter(lambda n: n % 2 == 0)
    assert even.sort().limit(3).run("n:*") == ([0, 2, 4], [])
    parity = GearsRemoteBuilder(r=shard).countby(lambda record: int(record["value"]) % 2).run("n:*")
    assert sorted((group["key"], group["value"]) for group in parity[0]) == [("0", 20), ("1", 20)]


def test_an_error_of_a_function_comes_back(shard: redis.Redis) -> None:
    results, errors = GearsRemoteBuilder("ShardsIDReader", r=shard).map(lambda _: 1 // 0).run()
    assert results == []
    assert len(errors) == 2
    assert all(b"ZeroDivisionError" in error for error in errors)


def test_a_requirement_that_the_worker_lacks_is_named(shard: redis.Redis) -> None:
    builder = GearsRemoteBuilder("ShardsIDReader", r=shard, requirements=["keymiss-no-such-package==1"])
    with pytest.raises(redis.ResponseError, match="keymiss-no-such-package"):
        builder.run()


def answer(record: dict[str, str]) -> None:
    from redisgears import overrideReply

    execute("SET", record["key"], "stored by gearsclient")
    overrideReply("answered by gearsclient")


def test_a_function_registered_for_misses(cluster: RedisClusterServers, shard: redis.Redis) -> None:
    registered = (
        GearsRemoteBuilder(r=shard)
        .foreach(answer)
        .register("remote:*", mode="async_local", eventTypes=["keymiss"], commands=["get"])
    )
    assert registered == b"OK"
    with cluster.client() as client:
        for tag in (keys.tag_for_slot(slot) for slot in (0, 8192)):
            key = f"remote:{{{tag}}}"
            assert client.get(key) == b"answered by gearsclient"
            assert client.get(key) == b"stored by gearsclient"
