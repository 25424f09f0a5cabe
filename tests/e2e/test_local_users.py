"""The local system's users: what anybody who can connect may do, what only the administrator may, and that no
process is root's and no file of it anybody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from keymiss.cluster.credentials import Credentials
from keymiss.local.processes import processes_of
from tests.e2e.test_gearsclient import run_documented
from tests.e2e.test_start_stop import Local
from tests.patience import patient
from tests.servers import REPO, connect, open_folder

SENTENCE = "sentence:KM0001:{1bz}"
ASKED = "bertqa{1bz}_KM0001:{1bz}:0_Who asks"
TENSOR = "tokenized:bert:qa:KM0001:{1bz}:0"
ADMIN_KEY = "the key that this test gives to the API"
ANSWERING = """
async def answer(record):
    execute('SET', record['key'], 'an answer')
    override_reply('an answer')
    return 'an answer'
GB('KeysReader').foreach(answer).register(
    prefix='bertqa*', commands=['get'], eventTypes=['keymiss'], mode='async_local')
"""


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """One master and its replica, with a function that answers and a sentence."""
    system = Local(open_folder())
    system.env["KEYMISS_API_ADMIN_KEY"] = ADMIN_KEY
    try:
        started = system.script("start")
        assert started.returncode == 0, started.stdout + started.stderr
        with system.admin(system.settings.base_port) as client:
            client.hset(SENTENCE, "0", "a sentence")
            client.execute_command("AI.TENSORSET", TENSOR, "INT64", 2, "VALUES", 1, 2)
            client.execute_command("RG.PYEXECUTE", ANSWERING)
        yield system
    finally:
        system.end()


@pytest.fixture
def anybody(local: Local) -> Iterator[redis.Redis]:
    """The master, without a name and a password."""
    with connect(local.settings.base_port) as client:
        yield client


NOT_FOR_ANYBODY = [
    ("RG.PYEXECUTE", "import os; os.getuid()"),
    ("RG.UNREGISTER", "x-0"),
    ("KM.PULL", "me", 1, 0),
    ("KM.DONE", 1, "+OK\r\n"),
    ("KM.FAIL", 1, "x"),
    ("KM.GIVEBACK", 1),
    ("KM.ALIVE", 1),
    ("KM.SCRIPT", "LIST"),
    ("KM.REGISTER", "x-0", "x", 0, "KeysReader", "", "sync", "x*", "", "", ""),
    ("KM.UNREGISTER", "x-0"),
    ("KM.NOTIFY", "event", ASKED),
    ("KM.DERIVE", 1, SENTENCE, ASKED),
    ("KM.MODELDIGEST", "bert-qa{1bz}", 1, "x"),
    ("KM.MODELRAN", "bert-qa{1bz}", 1, 1, 1, 0),
    ("AI.MODELSTORE", "bert-qa{1bz}", "TORCH", "CPU", "BLOB", "x"),
    ("AI.MODELDEL", "bert-qa{1bz}"),
    ("AI.MODELEXECUTE", "bert-qa{1bz}", "INPUTS", 1, TENSOR, "OUTPUTS", 1, "out{1bz}"),
    ("AI.TENSORSET", TENSOR, "INT64", 1, "VALUES", 1),
    ("SET", ASKED, "a forged answer"),
    ("HSET", SENTENCE, "0", "a forged sentence"),
    ("DEL", SENTENCE),
    ("UNLINK", ASKED),
    ("EXPIRE", SENTENCE, 1),
    ("RESTORE", "x", 0, "x"),
    ("EVAL", "return 1", 0),
    ("FUNCTION", "LIST"),
    ("CONFIG", "GET", "masterauth"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("MODULE", "LIST"),
    ("MODULE", "LOAD", "/tmp/x.so"),
    ("DEBUG", "SLEEP", 0),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "NO", "ONE"),
    ("PSYNC", "?", -1),
    ("SAVE",),
    ("BGREWRITEAOF",),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", 0, 1),
    ("KEYS", "*"),
    ("MONITOR",),
    ("SLOWLOG", "GET"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "default", "+@all"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "ID", 1),
    ("CLIENT", "PAUSE", 1),
    ("CLUSTER", "RESET"),
    ("CLUSTER", "FORGET", "x"),
    ("CLUSTER", "FAILOVER"),
    ("PUBLISH", "x", "y"),
    ("SUBSCRIBE", "x"),
]


@pytest.mark.parametrize("words", NOT_FOR_ANYBODY, ids=lambda words: " ".join(map(str, words[:2]))[:30])
def test_anybody_may_not(anybody: redis.Redis, words: tuple[object, ...]) -> None:
    with pytest.raises(ResponseError) as caught:
        anybody.execute_command(*words)
    by_setting = "command not allowed" in str(caught.value)  # looked at before the user's rights
    assert isinstance(caught.value, NoPermissionError) or (by_setting and words[0] in ("DEBUG", "MODULE"))


FOR_ANYBODY = [
    ("GET", ASKED),
    ("HGET", SENTENCE, "0"),
    ("HGETALL", SENTENCE),
    ("SCAN", 0, "MATCH", "sentence:*"),
    ("TYPE", SENTENCE),
    ("TTL", SENTENCE),
    ("EXISTS", SENTENCE),
    ("DBSIZE",),
    ("AI.TENSORGET", TENSOR, "VALUES"),
    ("RG.DUMPREGISTRATIONS",),
    ("INFO",),
    ("INFO", "keymiss"),
    ("CLUSTER", "NODES"),
    ("CLUSTER", "SLOTS"),
    ("CLUSTER", "SHARDS"),
    ("CLUSTER", "INFO"),
    ("CLUSTER", "KEYSLOT", SENTENCE),
    ("COMMAND",),
    ("HELLO", 2),
    ("PING",),
    ("CLIENT", "SETNAME", "somebody"),
    ("CLIENT", "ID"),
    ("READONLY",),
    ("READWRITE",),
    ("MULTI",),
    ("EXEC",),
]


def test_anybody_may_read_and_ask(anybody: redis.Redis) -> None:
    for words in FOR_ANYBODY:
        anybody.execute_command(*words)
    assert anybody.get(ASKED) == b"an answer"
    assert anybody.get(f"{ASKED} again") == b"an answer"
    with pytest.raises(ResponseError, match="run info") as caught:
        anybody.execute_command("AI.INFO", "bert-qa{1bz}")
    assert not isinstance(caught.value, NoPermissionError), "there is none, but one may ask"


def output(*command: str) -> str:
    """What a program says; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_of_the_readme(local: Local) -> None:
    port = str(local.settings.base_port)
    cli = ("redis-cli", "-c", "-p", port)
    assert output(*cli, "--scan", "--pattern", "sentence:*").strip() == SENTENCE
    assert output(*cli, "hget", SENTENCE, "0").strip() == "a sentence"
    assert output(*cli, "get", f"{ASKED}, of redis-cli").strip() == "an answer"
    assert "keymiss_workers:1" in output("redis-cli", "-p", port, "info", "keymiss")
    assert "bertqa*" in output("redis-cli", "-p", port, "RG.DUMPREGISTRATIONS")
    benchmark = ("redis-benchmark", "-p", port, "-c", "50", "-n", "1000", "--csv")
    for more in (("get", f"{ASKED}, of redis-benchmark"), ("-t", "ping,set,get,incr,mset")):
        said = output(*benchmark, *more)
        assert "Error" not in said
        assert said.count("\n") > 1


def test_a_cluster_client_that_says_nothing_of_itself(local: Local) -> None:
    with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", local.settings.base_port)]) as client:
        assert client.get(f"{ASKED}, of redis-py") == b"an answer"
        with client.pipeline() as pipeline:
            assert pipeline.get(ASKED).hget(SENTENCE, "0").execute() == [b"an answer", b"a sentence"]


def test_the_documented_clients(local: Local, tmp_path: Path) -> None:
    port = str(local.settings.base_port)
    old = REPO / ".venv-oldclients" / "bin" / "python"
    for name, python in (("redis_py.py", sys.executable), ("redis_py_cluster.py", old)):
        done = run_documented(name, python, tmp_path, port, f"{ASKED}, of {name}")
        assert (done.returncode, done.stdout) == (0, "an answer\n"), done.stderr
    refused = run_documented("count_keys.py", sys.executable, tmp_path, port)
    assert "NOPERM" in refused.stderr or "no permissions" in refused.stderr
    admin = str(local.settings.secrets / "admin")
    done = run_documented("count_keys.py", sys.executable, tmp_path, port, admin)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shard ")


def test_the_command_line_is_the_administrator(local: Local) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "keymiss.cli", "concepts", "load", str(REPO / "data/sample/concepts.csv")],
        cwd=REPO,
        env={**os.environ, **local.env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = local.script("redis-cli", "CONFIG", "GET", "appendonly")
    assert said.stdout.split() == ["appendonly", "yes"], said.stderr
    with connect(local.settings.base_port) as client, pytest.raises(NoPermissionError):
        client.config_get("appendonly")


@contextmanager
def command_lines() -> Iterator[set[bytes]]:
    """Of all processes of this machine, as long as it lasts: looked at again and again."""
    seen, ends = set[bytes](), threading.Event()

    def look() -> None:
        while not ends.wait(0.01):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    with suppress(OSError):
                        seen.add((process / "cmdline").read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ends.set()
        looking.join()


def test_no_secret_is_seen(local: Local) -> None:
    files = [file for file in local.settings.secrets.iterdir() if file.suffix != ".acl"]
    passwords = [file.read_text().strip() for file in files]
    assert len(set(passwords)) == 5
    for pid in processes_of(local.settings.var):
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert not [password for password in passwords if password.encode() in shown]

    url = f"https://localhost:{local.settings.https_port}"
    private = "Who asks about a private matter"
    with command_lines() as seen, httpx.Client(base_url=url, verify=False, timeout=patient(30)) as http:
        http.post("/qasearch", json={"search": private})
        http.get("/search", params={"search": private})
        for key in (ADMIN_KEY, f"{ADMIN_KEY}, but wrong"):
            http.post("/articles", headers={"X-Admin-Key": key}, json={"paper_id": "x"})
        long_enough_to_be_seen = ("-r", "10", "-i", "0.05")
        assert local.script("redis-cli", *long_enough_to_be_seen, "PING").stdout.split() == ["PONG"] * 10
        local.script("status")
        with local.admin(local.settings.base_port) as client:
            client.get(f"{ASKED}, {private}")
            wrong = Credentials("admin", passwords[0] + "x").login
            with suppress(redis.AuthenticationError), connect(local.settings.base_port, **wrong) as nobody:
                nobody.ping()
    assert any(b"redis-cli" in line for line in seen)
    secrets = [*passwords, ADMIN_KEY]
    assert not [line for line in seen for secret in secrets if secret.encode() in line]
    logs = "".join(log.read_text(errors="replace") for log in local.settings.log.glob("*.log"))
    assert '"path":"/articles","status":' in logs.replace(": ", ":"), "they are the right ones"
    assert not [secret for secret in (*secrets, "private matter", "private+matter") if secret in logs]
    assert "BEGIN" not in logs, "nor a key"


def test_no_process_is_roots(local: Local) -> None:
    pids = processes_of(local.settings.var)
    assert len(pids) >= 6  # the supervisor, two nodes, worker, API, nginx
    users = set()
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        lines = {line.split()[0]: line.split()[1:] for line in status if line[:4] in ("Uid:", "Gid:", "CapE")}
        users |= {int(uid) for uid in lines["Uid:"]}
        if os.geteuid() == 0:
            assert "0" not in lines["Gid:"]
            assert int(lines["CapEff:"][0], 16) == 0
    assert len(users) == 1
    assert users == {os.geteuid()} or 0 not in users


def test_what_is_written_is_for_its_owner_only(local: Local) -> None:
    var = local.settings.var
    with local.admin(local.settings.base_port) as client:
        client.execute_command("BGREWRITEAOF")  # files made while it runs, too
    mine = {var / name for name in ("run", "log", "data", "blobs", "secrets", "tls", "nginx")}
    seen = 0
    for folder in mine:
        assert stat.S_IMODE(folder.lstat().st_mode) == 0o700, folder
        for path in folder.rglob("*"):
            if not path.is_symlink():
                assert path.lstat().st_mode & 0o077 == 0, path
                seen += 1
    assert seen > 20
    for path in var.rglob("*"):  # the rest: the project's copy, which root keeps
        assert path.is_symlink() or path.lstat().st_mode & 0o007 == 0, path
    if os.geteuid() == 0:
        owners = {path.lstat().st_uid for path in (var / "app").rglob("*")}
        assert owners == {0}
        assert (var / "data").stat().st_uid != 0


def test_a_second_start_keeps_the_passwords(local: Local) -> None:
    """The last one: the function and the sentence are there after it, too."""
    before = {file.name: file.read_text() for file in local.settings.secrets.iterdir()}
    assert local.script("stop").returncode == 0
    started = local.script("start")
    assert started.returncode == 0, started.stdout + started.stderr
    assert {file.name: file.read_text() for file in local.settings.secrets.iterdir()} == before
    with connect(local.settings.base_port) as client:
        assert client.get(f"{ASKED}, after a start") == b"an answer"
        with pytest.raises(NoPermissionError):
            client.execute_command("RG.PYEXECUTE", "1")
