"""The program by which The Pattern loaded its reader runs unchanged but for a name and a password.

It was written for redis-py-cluster 2.1 and for `ClusterClient` of redisai-py 1.0.2, a class that is in the
branch cluster_api only. Here the published packages make it (COMPATIBLE), unless the branch is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForQuestionAnswering

from keymiss import keys
from keymiss.models.export_reader import exported_files
from keymiss.models.forms import quiet
from tests.api.acl import env_of, locked_cluster, password_of
from tests.e2e.test_gearsclient import documented
from tests.e2e.test_redis_py_cluster import old_python  # noqa: F401  (a fixture)
from tests.servers import REPO, RedisClusterServers, WorkerProcess, tags_of, wait_until

PROGRAM_TIMEOUT_S = 120
QUESTION = "Who performs viral transmission among adults"
SENTENCE = "Among adults, viral transmission is performed mainly by young parents of school children."

# Imported by Python at its start, so that the program itself can stay as it is.
COMPATIBLE = """
import redisai
from rediscluster import RedisCluster

if not hasattr(redisai, "ClusterClient"):
    redisai.ClusterClient = type("ClusterClient", (RedisCluster, redisai.Client), {})
"""

# Call by call what the original does, with the user's name and password in its connection.
LOAD = """
import sys

from redisai import ClusterClient

username, password, ports, model_file = sys.argv[1:]
with open(model_file, "rb") as f:
    model = f.read()
startup_nodes = [{"host": "127.0.0.1", "port": port} for port in ports.split(",")]
cc = ClusterClient(startup_nodes=startup_nodes, username=username, password=password)
tags = cc.execute_command("RG.PYEXECUTE", "gb = GB('ShardsIDReader').map(lambda x:hashtag()).run()")[0]
print(tags)
for tag in tags:
    cc.modelset("bert-qa{%s}" % tag.decode("utf-8"), "TORCH", "CPU", model)
    print(cc.infoget("bert-qa{%s}" % tag.decode("utf-8")))
"""

ASK = """
import sys

from rediscluster import RedisCluster

username, password, ports, *keys = sys.argv[1:]
startup_nodes = [{"host": "127.0.0.1", "port": port} for port in ports.split(",")]
login = {"username": username, "password": password}
client = RedisCluster(startup_nodes=startup_nodes, decode_responses=True, **login)
for key in keys:
    print(client.get(key))
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    """A cluster in which everybody needs a name and a password."""
    with locked_cluster(masters=3, replicas=1) as running:
        yield running


@pytest.fixture(scope="module")
def tags(servers: RedisClusterServers) -> Iterator[list[str]]:
    """With a worker, the project's function, and one sentence on every shard; the shards' hash tags."""
    with WorkerProcess(servers, env=env_of("worker")):
        with servers.masters[0].client() as admin:
            assert admin.execute_command("RG.PYEXECUTE", (REPO / "gears" / "qa.py").read_text()) == b"OK"
        with servers.client() as admin:
            found = tags_of(admin)
            for tag in found:
                admin.hset(keys.sentence_key("PMC1.xml", tag), "1", SENTENCE)
        yield found


@pytest.fixture(scope="module")
def traced_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader, traced as the original did it: two tokens of ones, and no tokenizer in the file."""
    file = tmp_path_factory.mktemp("traced") / "traced_bert_qa.pt"
    with quiet(), torch.no_grad():
        model = BertForQuestionAnswering.from_pretrained(REPO / "models" / "reader", dtype=torch.float32)
        model.config.return_dict = False
        traced = torch.jit.trace(model.eval(), [torch.ones(1, 2, dtype=torch.int64)] * 3)
        torch.jit.save(traced, str(file))
    return file


@pytest.fixture(scope="module")
def exported_file() -> Path:
    """The reader as keymiss.models.export makes it."""
    return exported_files("models/reader")[0]


def run_old(
    program: str, python: Path, folder: Path, servers: RedisClusterServers, user: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """The program, with the user, the password, the ports of three nodes (as the original), and more."""
    (folder / "sitecustomize.py").write_text(COMPATIBLE)
    (folder / "program.py").write_text(program)
    ports = ",".join([str(node.port) for node in servers.nodes if node.alive][:3])
    command = [python, "-W", "ignore", folder / "program.py", user, password_of(user), ports, *arguments]
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
    )


def load(python: Path, folder: Path, servers: RedisClusterServers, file: Path) -> list[Any]:
    """What the loading program prints, line by line: the tags, then what infoget gives for each."""
    ran = run_old(LOAD, python, folder, servers, "admin", file)
    assert ran.returncode == 0, ran.stderr
    return [ast.literal_eval(line) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("kind", ["traced", "exported"])
def test_it_loads_every_shard_and_a_question_is_answered(
    servers: RedisClusterServers,
    tags: list[str],
    old_python: Path,  # noqa: F811
    traced_file: Path,
    exported_file: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    file = traced_file if kind == "traced" else exported_file
    said, *infos = load(old_python, tmp_path, servers, file)
    assert sorted(said) == sorted(tag.encode() for tag in tags)
    assert len(infos) == len(tags) == 3
    for tag, info in zip(said, infos, strict=True):
        assert info == {
            "key": f"bert-qa{{{tag.decode()}}}",
            "type": "MODEL",
            "backend": "TORCH",
            "device": "CPU",
            "tag": "",
            "duration": 0,
            "samples": 0,
            "calls": 0,
            "errors": 0,
        }
    asked = [keys.answer_key("PMC1.xml", tag, 1, QUESTION) for tag in tags]
    ran = run_old(ASK, old_python, tmp_path, servers, "admin", *asked)
    assert ran.returncode == 0, ran.stderr
    answers = ran.stdout.splitlines()
    with servers.client() as admin:
        for tag, key, answer in zip(tags, asked, answers, strict=True):
            assert "parents" in answer
            assert answer in SENTENCE
            assert admin.getrange(key, 0, -1) == answer.encode()
            assert admin.execute_command("AI.INFO", f"bert-qa{{{tag}}}")[15] == 1  # that model's run


def test_the_documented_program_with_the_class_in_it(
    servers: RedisClusterServers,
    tags: list[str],
    old_python: Path,  # noqa: F811
    exported_file: Path,
    tmp_path: Path,
) -> None:
    file = tmp_path / "load_by_redisai.py"
    file.write_text(documented(file.name))
    port = str(servers.masters[1].port)
    arguments = [str(exported_file), port, "admin", password_of("admin")]
    ran = subprocess.run(
        [str(old_python), "-W", "ignore", str(file), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
    )
    assert ran.returncode == 0, ran.stderr
    infos = [ast.literal_eval(line) for line in ran.stdout.splitlines()]
    assert sorted(info["key"] for info in infos) == sorted(f"bert-qa{{{tag}}}" for tag in tags)


def test_without_the_rights_it_says_which_one_is_missing(
    servers: RedisClusterServers,
    tags: list[str],
    old_python: Path,  # noqa: F811
    exported_file: Path,
    tmp_path: Path,
) -> None:
    ran = run_old(LOAD, old_python, tmp_path, servers, "api", exported_file)
    assert ran.returncode != 0
    assert "NoPermissionError" in ran.stderr or "no permissions to run" in ran.stderr


def test_a_failover_right_after_it_loses_no_model(
    servers: RedisClusterServers,
    tags: list[str],
    old_python: Path,  # noqa: F811
    traced_file: Path,
    tmp_path: Path,
) -> None:
    """The last one: it takes a master away."""
    model_key = f"bert-qa{{{tags[0]}}}"
    lost = servers.server_of(model_key)
    heir = servers.replicas[servers.masters.index(lost)]
    load(old_python, tmp_path, servers, traced_file)
    lost.kill()
    with heir.client() as client:
        wait_until(lambda: client.info("replication")["role"] == "master", 60, "its replica is promoted")
        assert client.execute_command("AI.INFO", model_key)[5] == b"TORCH"

    def asked() -> str:
        """Until the worker has found the new master, it is an error."""
        key = keys.answer_key("PMC1.xml", tags[0], 1, "Who performs transmission after a failover")
        return run_old(ASK, old_python, tmp_path, servers, "admin", key).stdout.strip()

    assert wait_until(asked, 60, "the new master answers") in SENTENCE
