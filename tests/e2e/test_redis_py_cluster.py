"""redis-py-cluster 2.1.3, in an environment of its own, asks questions by GET; so does redis-py's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.models import load
from tests.e2e.test_gearsclient import run_documented
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, WorkerProcess, tags_of

SET_UP_TIMEOUT_S = 100
QUESTION = "Who performs viral transmission among adults"
SENTENCE = "Among adults, viral transmission is performed mainly by young parents of school children."
ECHO = """
def answer(record):
    override_reply('the answer to ' + record['key'].rsplit('_', 1)[1])

def refuse(record):
    raise ValueError('no answer to that')

GB(desc='echo').foreach(answer).register(
    prefix='echo*', mode='async_local', eventTypes=['keymiss'], commands=['get'])
GB(desc='refuse').foreach(refuse).register(
    prefix='refuse*', mode='async_local', eventTypes=['keymiss'], commands=['get'])
"""


@pytest.fixture(scope="session")
def old_python() -> Path:
    """The Python of .venv-oldclients, made when it is missing; fails and says why when that cannot be."""
    made = subprocess.run(
        ["bash", "-c", "source scripts/setup.sh && set_up_old_clients"],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=patient(SET_UP_TIMEOUT_S),
    )
    if made.returncode:
        pytest.fail(f"the environment .venv-oldclients could not be made:\n{made.stderr}", pytrace=False)
    return REPO / ".venv-oldclients" / "bin" / "python"


@pytest.fixture(scope="module")
def client(cluster: RedisClusterServers, cluster_worker: WorkerProcess) -> Iterator[RedisCluster]:
    """A client of a cluster with the reader, the project's function, and one sentence on every shard."""
    assert load.main(["--model", "models/reader", "--nodes", cluster.addresses]) == 0
    with cluster.masters[0].client() as node:
        for source in (ECHO, (REPO / "gears" / "qa.py").read_text()):
            assert node.execute_command("RG.PYEXECUTE", source) == b"OK"
    with cluster.client(decode_responses=True) as made:
        for tag in tags(made):
            made.hset(keys.sentence_key("PMC1.xml", tag), "1", SENTENCE)
        yield made


def tags(client: RedisCluster) -> list[str]:
    return tags_of(client)


def ask_old(old_python: Path, folder: Path, port: int, key: str) -> subprocess.CompletedProcess[str]:
    return run_documented("redis_py_cluster.py", old_python, folder, str(port), key)


def test_the_environment_has_the_old_versions(old_python: Path) -> None:
    source = "from importlib.metadata import version as v; print(v('redis-py-cluster'), v('redis'))"
    ran = subprocess.run([str(old_python), "-c", source], capture_output=True, text=True, timeout=patient(60))
    assert ran.returncode == 0, ran.stderr
    cluster_version, redis_version = ran.stdout.split()
    assert cluster_version == "2.1.3"
    assert redis_version.startswith("3.")


def test_the_old_client_gets_what_a_function_replies(
    client: RedisCluster, cluster: RedisClusterServers, old_python: Path, tmp_path: Path
) -> None:
    for tag in tags(client):
        ran = ask_old(old_python, tmp_path, cluster.masters[0].port, f"echo{{{tag}}}_{QUESTION}")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == f"the answer to {QUESTION}\n"


def test_the_old_client_asks_the_reader_on_every_shard(
    client: RedisCluster, cluster: RedisClusterServers, old_python: Path, tmp_path: Path
) -> None:
    for tag in tags(client):
        key = keys.answer_key("PMC1.xml", tag, 1, QUESTION)
        assert not client.exists(key)
        asked = ask_old(old_python, tmp_path, cluster.masters[0].port, key)
        assert asked.returncode == 0, asked.stderr
        assert "parents" in asked.stdout
        assert asked.stdout.strip() in SENTENCE
        assert client.getrange(key, 0, -1) == asked.stdout.strip()
        again = ask_old(old_python, tmp_path, cluster.masters[1].port, key)
        assert (again.returncode, again.stdout) == (0, asked.stdout), again.stderr


def test_the_old_client_needs_no_right_to_read_settings(
    client: RedisCluster, cluster: RedisClusterServers, old_python: Path, tmp_path: Path
) -> None:
    """By itself it sends CONFIG GET when it connects, and gives up when that is refused."""
    for node in cluster.nodes:
        with node.client() as one:
            one.execute_command("ACL", "SETUSER", "default", "-config")
    try:
        ran = ask_old(old_python, tmp_path, cluster.masters[0].port, f"echo{{{tags(client)[0]}}}_{QUESTION}")
    finally:
        for node in cluster.nodes:
            with node.client() as one:
                one.execute_command("ACL", "SETUSER", "default", "+config")
    assert (ran.returncode, ran.stdout) == (0, f"the answer to {QUESTION}\n"), ran.stderr


def test_the_old_client_sees_the_error_of_a_function(
    client: RedisCluster, cluster: RedisClusterServers, old_python: Path, tmp_path: Path
) -> None:
    ran = ask_old(old_python, tmp_path, cluster.masters[0].port, f"refuse{{{tags(client)[1]}}}_x")
    assert ran.returncode != 0
    assert "ResponseError: FAILED ValueError: no answer to that" in ran.stderr


def test_redis_py_asks_the_same_way(
    client: RedisCluster, cluster: RedisClusterServers, tmp_path: Path
) -> None:
    for tag in tags(client):
        key = keys.answer_key("PMC1.xml", tag, 1, "Who performs viral transmission")
        ran = run_documented("redis_py.py", sys.executable, tmp_path, str(cluster.masters[0].port), key)
        assert ran.returncode == 0, ran.stderr
        assert "parents" in ran.stdout
        assert ran.stdout.strip() in SENTENCE
        assert client.get(key) == ran.stdout.strip()


def test_the_error_is_the_same_in_redis_py(client: RedisCluster) -> None:
    with pytest.raises(redis.ResponseError, match="FAILED ValueError: no answer to that"):
        client.get(f"refuse{{{tags(client)[0]}}}_x")
