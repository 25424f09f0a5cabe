"""The whole system where `default` is off: everybody has a user of acl/users.acl.template, and a password,
may do what it must, and nothing more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from keymiss import Client
from keymiss.client import ArticleState, NotFound
from keymiss.keys import paragraphs_key
from keymiss.local.observe import find_exporter
from tests.api.acl import (
    TEMPLATE,
    USERS,
    acl_text,
    env_of,
    locked_cluster,
    login_of,
    password_of,
)
from tests.api.processes import ApiProcess
from tests.patience import patient
from tests.servers import (
    REPO,
    Process,
    RedisClusterServers,
    RedisServer,
    WorkerProcess,
    free_port,
    wait_until,
)

ADMIN_KEY = "an admin key of this test"
SENTENCE = "Infected children perform viral transmission among adults."
QUESTION = "Who performs viral transmission among adults?"
ARTICLE = {
    "paper_id": "KM1",
    "metadata": {"title": "Transmission"},
    "body_text": [{"text": f"{SENTENCE} A cat sleeps for most of the day in winter."}],
}


def python(
    *arguments: str, env: Mapping[str, str], timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """`python ...` as a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPO), **env},
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=patient(timeout_s),
    )


def command(*arguments: str, user: str = "admin") -> str:
    """What `python -m ...` prints as that user; it must succeed."""
    done = python("-m", *arguments, env=env_of(user))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with locked_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def worker(servers: RedisClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """Its password comes out of a file."""
    file = tmp_path_factory.mktemp("secrets") / "worker"
    file.write_text(password_of("worker") + "\n")
    env = {"KEYMISS_REDIS_USERNAME": "worker", "KEYMISS_REDIS_PASSWORD_FILE": str(file)}
    with WorkerProcess(servers, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(
    servers: RedisClusterServers, worker: WorkerProcess, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Models, functions, concepts and an article, by the command line as `admin`. Returns the nodes."""
    nodes = servers.addresses
    command("keymiss.models.load", "--nodes", nodes)
    command("keymiss.models.load_encoder", "--nodes", nodes)
    gears = sorted(str(path) for path in (REPO / "gears").glob("*.py"))
    command("keymiss.cli", "gears", "upload", *gears, "--nodes", nodes)
    command("keymiss.cli", "concepts", "load", str(REPO / "data/sample/concepts.csv"), "--nodes", nodes)
    article = tmp_path_factory.mktemp("articles") / "KM1.json"
    article.write_text(json.dumps(ARTICLE))
    assert "1 article" in command("keymiss.cli", "load", str(article), "--nodes", nodes)
    return nodes


@pytest.fixture(scope="module")
def api(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """Both its secrets come out of files."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "password").write_text(password_of("api"))
    (folder / "admin-key").write_text(ADMIN_KEY + "\n")
    env = {
        "KEYMISS_REDIS_USERNAME": "api",
        "KEYMISS_REDIS_PASSWORD_FILE": str(folder / "password"),
        "KEYMISS_API_ADMIN_KEY_FILE": str(folder / "admin-key"),
    }
    with ApiProcess(loaded, wait_indexed=3, env=env) as running:
        yield running


def is_gone(http: Client, article: str) -> bool:
    try:
        http.get_article(article)
    except NotFound:
        return True
    return False


def refusals(servers: RedisClusterServers) -> list[str]:
    """What every server has refused since it started: user, reason, command."""
    found = []
    for node in servers.nodes:
        if node.alive:
            with node.client(decode_responses=True) as client:
                found += [f"{e['username']} {e['reason']} {e['object']}" for e in client.acl_log()]
    return found


def test_the_template_has_a_line_for_each_user_and_no_password() -> None:
    lines = TEMPLATE.read_text().splitlines()
    assert lines[0] == "user default off"
    assert [line.split()[1] for line in lines[1:]] == list(USERS)
    assert all(f" #{{{user}}} " in line for user, line in zip(USERS, lines[1:], strict=True))
    assert "{" not in acl_text()
    assert "nopass" not in acl_text()


def test_who_says_nothing_is_nobody(servers: RedisClusterServers) -> None:
    client = RedisServer.client(servers.nodes[0], username=None, password=None)
    with client, pytest.raises(AuthenticationError):
        client.ping()


def test_the_whole_system_works(servers: RedisClusterServers, api: ApiProcess) -> None:
    wait_until(api.ready, 60, "the API is ready")
    first = wait_until(lambda: api.ask(QUESTION).best, 30, "an answer")
    assert first is not None
    assert first.sentence == SENTENCE
    assert "children" in first.answer
    text = "A cat drinks milk in the morning when it is cold outside. Adults with the virus cough at night."
    body = {"paper_id": "KM2", "metadata": {"title": "Cats"}, "body_text": [{"text": text}]}
    with api.client(ADMIN_KEY) as http:
        assert http.search("influenza transmission").search == "influenza transmission"
        assert http.add_article(body).article == "KM2"
        wait_until(lambda: http.get_article("KM2").state is ArticleState.PROCESSED, 30, "it is processed")
        http.delete_article("KM2")
        wait_until(lambda: is_gone(http, "KM2"), 30, "it is gone")
    metrics = httpx.get(f"{api.url}/metrics", timeout=patient(30)).text
    for sample in ("keymiss_shard_workers", "keymiss_model_calls_total", "keymiss_shard_edges_waiting"):
        assert metrics.count(f"\n{sample}{{") >= 3, sample
    assert [one for one in refusals(servers) if not one.startswith("default ")] == []


ASKED = "bertqa{1bz}_KM1:{1bz}:0_x"
MAY_NOT: dict[str, list[tuple[Any, ...]]] = {
    "api": [
        ("RG.PYEXECUTE", "GB('ShardsIDReader').run()"),
        ("RG.UNREGISTER", "x-0"),
        ("KM.PULL", "me", 1, 0),
        ("KM.DONE", 1, "+OK\r\n"),
        ("KM.SCRIPT", "LIST"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("SHUTDOWN",),
        ("ACL", "LIST"),
        ("CLIENT", "KILL", "ID", 1),
        ("CLUSTER", "RESET"),
        ("DEBUG", "SLEEP", 0),
        ("SET", ASKED, "a forged answer"),
        ("DEL", "bert-qa{1bz}"),
        ("AI.MODELEXECUTE", "bert-qa{1bz}", "INPUTS", 1, "bert-qa{1bz}", "OUTPUTS", 1, "bert-qa{1bz}"),
        ("AI.MODELSTORE", "bert-qa{1bz}", "TORCH", "CPU", "BLOB", "a forged model"),
        ("AI.MODELSET", "bert-qa{1bz}", "TORCH", "CPU", "BLOB", "a forged model"),
        ("UNLINK", "sentence:KM1:{1bz}"),
        ("HSET", "sentence:KM1:{1bz}", "0", "a forged sentence"),
        ("EVAL", "return redis.call('FLUSHALL')", 1, "article:KM1"),
        ("EVAL", "return redis.call('SET', 'sentence:x:{1bz}', 'y')", 1, "article:KM1"),
        ("GET", "another key"),
    ],
    "worker": [
        ("CONFIG", "SET", "maxmemory", "1"),
        ("CONFIG", "GET", "masterauth"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("SHUTDOWN",),
        ("ACL", "SETUSER", "worker", "+@all"),
        ("CLUSTER", "FORGET", "x"),
        ("CLUSTER", "RESET"),
        ("REPLICAOF", "NO", "ONE"),
        ("DEBUG", "SLEEP", 0),
        ("MODULE", "LOAD", "/x.so"),
        ("KEYS", "*"),
        ("MONITOR",),
    ],
    "monitor": [
        ("GET", ASKED),
        ("KM.MISS", ASKED),
        ("KM.MISSES", 1, ASKED),
        ("HGETALL", "sentence:KM1:{1bz}"),
        ("SCAN", 0),
        ("CONFIG", "GET", "masterauth"),
        ("SLOWLOG", "GET"),
        ("CLIENT", "LIST"),
        ("FLUSHALL",),
        ("RG.PYEXECUTE", "1"),
        ("ZCARD", "graph:links:{1bz}:KC0001"),
    ],
    "replica": [("GET", ASKED), ("INFO",), ("CONFIG", "GET", "*"), ("CLUSTER", "NODES"), ("FLUSHALL",)],
}
MAY: dict[str, list[tuple[Any, ...]]] = {
    "api": [
        ("GET", ASKED),
        ("KM.MISSES", 1, ASKED),
        ("KM.STATS",),
        ("CLUSTER", "NODES"),
        ("XLEN", "edges:{1bz}"),
        ("RG.DUMPREGISTRATIONS",),
    ],
    "worker": [("KM.PULL", "me", 1, 0), ("INFO", "server"), ("CLUSTER", "INFO"), ("KM.REGISTRATIONS",)],
    "monitor": [
        ("INFO", "all"),
        ("DBSIZE",),
        ("KM.STATS",),
        ("CLUSTER", "INFO"),
        ("CLUSTER", "NODES"),
        ("RG.DUMPREGISTRATIONS",),
        ("XLEN", "edges:{1bz}"),
        ("ZCARD", "graph:nodes:{1bz}"),
        ("LATENCY", "LATEST"),
        ("SLOWLOG", "LEN"),
    ],
}


@pytest.fixture(scope="module")
def one() -> Iterator[RedisServer]:
    """A cluster of one master: there every key is its own, and nobody is attached."""
    with locked_cluster(masters=1, replicas=0) as running:
        yield running.nodes[0]


@pytest.mark.parametrize("user", MAY_NOT)
def test_nobody_may_more_than_he_must(one: RedisServer, user: str) -> None:
    with one.client(**login_of(user)) as client:
        for words in MAY_NOT[user]:
            with pytest.raises(ResponseError) as caught:
                client.execute_command(*words)
            said = str(caught.value)
            texts = ("The user executing the script can't", "ACL failure in script")  # redis's, valkey's
            in_script = words[0] == "EVAL" and any(text in said for text in texts)
            assert isinstance(caught.value, NoPermissionError) or in_script, (words, said)


@pytest.mark.parametrize("user", MAY)
def test_everybody_may_what_he_must(one: RedisServer, user: str) -> None:
    with one.client(**login_of(user)) as client:
        for words in MAY[user]:
            client.execute_command(*words)


def test_the_monitor_sees_the_status(servers: RedisClusterServers, api: ApiProcess) -> None:
    found = json.loads(
        command("keymiss.cli", "status", "--json", "--nodes", servers.addresses, user="monitor")
    )
    assert found["problems"] == []
    masters = [node for node in found["nodes"] if node["role"] == "master"]
    assert len(masters) == 3
    for node in masters:
        assert node["stats"]["workers"] == 1
        assert [model["name"] for model in node["models"]] == ["bert-qa", "bert-encoder"]
        assert len(node["registrations"]) > 10


def test_a_wrong_password_ends_the_worker_with_one_sentence(one: RedisServer) -> None:
    for env, sentence in (
        (
            {"KEYMISS_REDIS_USERNAME": "worker", "KEYMISS_REDIS_PASSWORD": "wrong password"},
            "refuses the user",
        ),
        ({}, "wants a user and a password"),
    ):
        done = python(
            "-m", "keymiss.worker", "--nodes", one.address, "--backend", "dummy", env=env, timeout_s=30
        )
        last = json.loads(done.stderr.splitlines()[-1])
        assert done.returncode == 2, done.stdout + done.stderr
        assert last["event"] == "refused"
        assert sentence in last["error"]
        assert "Traceback" not in done.stdout + done.stderr
        assert "wrong password" not in done.stderr


@pytest.mark.parametrize(
    "program",
    [
        ("keymiss.cli", "gears", "upload", "gears/qa.py"),
        ("keymiss.cli", "pipeline"),
        ("keymiss.cli", "status"),
        ("keymiss.models.load", "--model", "models/reader"),
    ],
)
def test_a_wrong_password_ends_a_command_with_one_sentence(
    servers: RedisClusterServers, program: tuple[str, ...]
) -> None:
    env = {"KEYMISS_REDIS_USERNAME": "admin", "KEYMISS_REDIS_PASSWORD": "wrong password"}
    done = python("-m", *program, "--nodes", servers.addresses, env=env, timeout_s=60)
    assert done.returncode == (1 if program[0] == "keymiss.models.load" else 2), done.stdout + done.stderr
    assert "refuses the user 'admin' with this password" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "wrong password" not in done.stderr


def test_the_api_is_not_ready_with_a_wrong_password(servers: RedisClusterServers) -> None:
    env = {"KEYMISS_REDIS_USERNAME": "api", "KEYMISS_REDIS_PASSWORD": "wrong password"}
    with ApiProcess(servers.addresses, env=env) as api:
        assert api.missing() == ["the cluster: it refuses the API's user or password"]
        assert "refuses the user" in api.log_text()
        assert "Traceback" not in api.log_text()
        assert "wrong password" not in api.log_text()


def test_a_secret_that_cannot_be_read_stops_every_process(tmp_path: Path) -> None:
    env = {"KEYMISS_REDIS_PASSWORD_FILE": str(tmp_path / "none")}
    nodes = f"127.0.0.1:{free_port()}"
    for program in (["keymiss.worker"], ["keymiss.api"], ["keymiss.cli", "pipeline"]):
        done = python("-m", *program, "--nodes", nodes, env=env, timeout_s=30)
        assert done.returncode == 2, (program, done.stdout, done.stderr)
        said = " ".join((done.stdout + done.stderr).split())
        assert "KEYMISS_REDIS_PASSWORD_FILE" in said
        assert "cannot be read" in said
        assert "Traceback" not in said


def test_a_failover_survives(servers: RedisClusterServers, api: ApiProcess) -> None:
    """The last one: it takes a master away."""
    wait_until(api.ready, 60, "the API is ready")
    with servers.client() as client:
        lost = servers.server_of(paragraphs_key("KM1"))
        lost.kill()
        wait_until(api.ready, 60, "the API is ready again")
        found = wait_until(lambda: api.ask(f"{QUESTION} Again?").best, 60, "an answer")
    assert found is not None
    assert found.sentence == SENTENCE
    lost.start()
    servers.wait_ok()  # as the replica of the new master: with the password of `replica`
    with lost.client() as client:
        assert client.info("replication")["role"] == "slave"


@pytest.mark.skipif(
    not find_exporter(), reason="the Redis exporter is not installed (Debian: setup.sh does it)"
)
def test_the_exporter_works_as_monitor(one: RedisServer) -> None:
    """CONFIG GET and SLOWLOG GET are refused, as they would show passwords and questions: it does without."""
    port = free_port()
    exporter = Process("exporter", {"REDIS_USER": "monitor", "REDIS_PASSWORD": password_of("monitor")})
    try:
        exporter.spawn([find_exporter(), "-redis.addr=", "-web.listen-address", f"127.0.0.1:{port}"])
        url = f"http://127.0.0.1:{port}/scrape"
        wait_until(lambda: _status_of(url) == 400, 20, "the exporter listens")  # no target was named
        lines = httpx.get(url, params={"target": f"redis://{one.address}"}).text.splitlines()
    finally:
        exporter.terminate()
        exporter.discard()
    assert "redis_up 1" in lines
    assert 'redis_exporter_last_scrape_error{err=""} 0' in lines
    for name in (
        "redis_memory_used_bytes",
        "redis_cluster_state",
        "redis_connected_slaves",
        "redis_commands_total",
    ):
        assert any(line.startswith(name) for line in lines), name


def _status_of(url: str) -> int:
    try:
        return httpx.get(url, timeout=patient(5)).status_code
    except httpx.TransportError:
        return 0
