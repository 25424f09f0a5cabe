"""A model or script is looked into before it is stored; what is bad is refused, and the old one stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from tests.cluster.torch_models import Adds, SumOfRows, adds_stored, identity_of_strings, torch_blob
from tests.hand_worker import Asker, HandWorker
from tests.servers import RedisServer, WorkerProcess, connect, keymiss_info, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

SCRIPT = "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0] * 2\n"


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as server, WorkerProcess(server):
        yield server


@pytest.fixture
def client(shard: RedisServer) -> Iterator[Any]:
    with shard.client() as connected:
        connected.flushall()
        yield connected


def meta(client: redis.Redis, key: str) -> dict[bytes, Any]:
    reply = client.execute_command("AI.MODELGET", key, "META")
    return dict(zip(reply[::2], reply[1::2], strict=True))


def names(client: redis.Redis, key: str) -> tuple[list[bytes], list[bytes]]:
    found = meta(client, key)
    return found[b"inputs"], found[b"outputs"]


def test_names_are_found(client: Any) -> None:
    client.execute_command("AI.MODELSTORE", "adds", "TORCH", "CPU", "BLOB", torch_blob(Adds()))
    client.execute_command("AI.MODELSTORE", "two", "TORCH", "CPU", "BLOB", torch_blob(SumOfRows()))
    client.execute_command("AI.MODELSTORE", "onnx", "ONNX", "CPU", "BLOB", identity_of_strings())
    assert names(client, "adds") == ([b"a", b"b"], [b""])
    assert names(client, "two") == ([b"x"], [b"", b""])
    assert names(client, "onnx") == ([b"in"], [b"out"])
    info = client.execute_command("KM.MODELINFO", "adds")
    assert len(info[11]) == 64  # its digest is kept with it
    for counts, message in (((1, 1), "INPUTS"), ((2, 2), "OUTPUTS")):
        given = ["x"] * counts[0], ["y"] * counts[1]
        with pytest.raises(ResponseError, match=f"keys given as {message} here does not match"):
            client.execute_command(
                "AI.MODELEXECUTE", "adds", "INPUTS", counts[0], *given[0], "OUTPUTS", counts[1], *given[1]
            )


@pytest.mark.parametrize("command", ["AI.MODELSTORE", "AI.MODELSET"])
def test_what_is_bad_leaves_the_old_one(client: Any, command: str) -> None:
    blob = torch_blob(Adds())
    client.execute_command(command, "m", "TORCH", "CPU", "TAG", "good", "BLOB", blob)
    version = client.execute_command("KM.MODELINFO", "m")[1]
    for backend, bad in (("TORCH", b"no model"), ("ONNX", b"no model"), ("ONNX", blob)):
        with pytest.raises(ResponseError) as refused:
            client.execute_command(command, "m", backend, "CPU", "TAG", "bad", "BLOB", bad)
        assert str(refused.value)
        assert "FAILED" not in str(refused.value)
    assert meta(client, "m")[b"tag"] == b"good"
    assert client.execute_command("KM.MODELINFO", "m")[1] == version
    assert client.execute_command("AI.MODELGET", "m", "BLOB") == blob
    with pytest.raises(ResponseError):
        client.execute_command(command, "none", "TORCH", "CPU", "BLOB", b"no model")
    assert client.exists("none") == 0


def test_data_of_other_files_is_refused(client: Any) -> None:
    client.execute_command("AI.MODELSTORE", "own", "ONNX", "CPU", "BLOB", adds_stored(external=False))
    with pytest.raises(ResponseError, match="external data is not allowed"):
        client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", adds_stored(external=True))
    assert client.exists("m") == 0
    with client.pipeline(transaction=True) as pipe:  # where nobody looks
        pipe.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", adds_stored(external=True))
        pipe.execute()
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 2)
    with pytest.raises(ResponseError, match="external data is not allowed"):
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")


def test_a_script_is_compiled(client: Any) -> None:
    store = ("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS")
    assert client.execute_command(*store, 1, "f", "SOURCE", SCRIPT) == b"OK"
    for count, points, source, message in (
        (1, ["g"], SCRIPT, "Function g does not exist in the given script"),
        (1, ["f"], "def f(a):\n    return a", "Wrong number of inputs in function f. Expected 3 but was 1"),
        (1, ["f"], SCRIPT.replace("args: List[str]", "args: List[int]"), "Wrong inputs type in function f"),
        (1, ["f"], "def f(:", "does not compile"),
        (1, ["f"], "import os\n" + SCRIPT, "does not compile"),
    ):
        with pytest.raises(ResponseError, match=message):
            client.execute_command(*store, count, *points, "SOURCE", source)
    with pytest.raises(ResponseError, match="does not compile"):
        client.execute_command("AI.SCRIPTSET", "s", "CPU", "SOURCE", "return 1")
    assert client.execute_command("AI.SCRIPTGET", "s", "SOURCE") == SCRIPT.encode()


def test_where_nobody_can_look_it_is_stored_and_the_names_are_found_later(client: Any) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("AI.MODELSTORE", "good", "TORCH", "CPU", "BLOB", torch_blob(Adds()))
        pipe.execute_command("AI.MODELSTORE", "bad", "TORCH", "CPU", "BLOB", b"no model")
        pipe.execute_command("AI.MODELGET", "good", "META")
        assert pipe.execute()[2][11] == []
    assert names(client, "good") == ([b"a", b"b"], [b""])
    assert names(client, "bad") == ([], [])


def test_replicas_and_files_have_what_was_found() -> None:
    with RedisServer(appendonly=True) as server, RedisServer() as replica, server.client() as client:
        replica.client().replicaof("127.0.0.1", server.port)
        wait_until(lambda: client.info("replication")["connected_slaves"] == 1, 20)
        wait_until(lambda: client.info("replication")["slave0"]["state"] == "online", 20)
        with WorkerProcess(server):
            client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", torch_blob(Adds()))
            client.execute_command("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", SCRIPT)
            # the reply waits for them
            with replica.client() as mirror:
                assert names(mirror, "m") == ([b"a", b"b"], [b""])
                assert mirror.execute_command("AI.SCRIPTGET", "s", "SOURCE") == SCRIPT.encode()
        server.restart(save=False)
        with server.client() as reader:
            assert names(reader, "m") == ([b"a", b"b"], [b""])
            assert reader.execute_command("AI.SCRIPTGET", "s", "META")[5] == [b"f"]


STORE = ("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", b"abc", b"def")


@pytest.fixture
def by_hand(server: RedisServer) -> tuple[RedisServer, HandWorker]:
    worker = HandWorker(server, attach=False)
    worker.client.execute_command("KM.PULL", "by-hand", 1, 0, "LOOKS")
    return server, worker


def test_a_worker_that_does_not_look_is_not_asked(server: RedisServer) -> None:
    HandWorker(server)
    assert server.client().execute_command(*STORE) == b"OK"


def test_a_candidate_is_read_and_stored(by_hand: tuple[RedisServer, HandWorker]) -> None:
    server, worker = by_hand
    client = server.client()
    asker = Asker(server, *STORE)
    (job,) = worker.pull()
    assert (job.kind, job.payload) == ("look", [b"model", b"m", b"TORCH", b"6"])
    assert client.exists("m") == 0
    assert client.execute_command("KM.CANDIDATE", job.id, 1, 9) == b"bc"
    assert client.execute_command("KM.CANDIDATE", job.id, 3, 9) == b"def"
    assert client.execute_command("KM.CANDIDATE", job.id, 6, 9) == b""
    assert client.execute_command("KM.LOOKED", "m", job.id, 1, "in", 0) > 0
    assert asker.result() == b"OK"
    assert names(client, "m") == ([b"in"], [])
    assert client.execute_command("KM.LOOKED", "m", job.id, 1, "in", 0) == 0
    with pytest.raises(ResponseError, match="the job is over"):
        client.execute_command("KM.CANDIDATE", job.id, 0, 9)


def test_nothing_is_stored_for_a_client_that_has_gone(by_hand: tuple[RedisServer, HandWorker]) -> None:
    server, worker = by_hand
    client = server.client()
    connection = connect(server.port).connection_pool.get_connection()
    connection.send_command(*STORE)
    (job,) = worker.pull()
    connection.disconnect()
    wait_until(lambda: keymiss_info(client)["clients_waiting"] == 0, 5)
    assert client.execute_command("KM.LOOKED", "m", job.id, 0, 0) == 0
    assert client.exists("m") == 0


def test_the_key_is_another_type_by_then(by_hand: tuple[RedisServer, HandWorker]) -> None:
    server, worker = by_hand
    client = server.client()
    asker = Asker(server, *STORE)
    (job,) = worker.pull()
    client.set("m", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        client.execute_command("KM.LOOKED", "m", job.id, 0, 0)
    client.execute_command("KM.FAIL", job.id, "WRONGTYPE it is a string", "PLAIN")
    assert str(asker.result()) == "WRONGTYPE it is a string"


def test_the_worker_dies_over_it(by_hand: tuple[RedisServer, HandWorker]) -> None:
    server, worker = by_hand
    asker = Asker(server, *STORE)
    worker.pull()
    second = HandWorker(server, attach=False)
    worker.die()
    (job,) = second.pull()
    assert (job.kind, job.attempts) == ("look", 2)
    assert server.client().execute_command("KM.CANDIDATE", job.id, 0, 3) == b"abc"
    second.die()
    assert "the worker died twice" in str(asker.result())
    assert server.client().exists("m") == 0
    wait_until(lambda: keymiss_info(server.client())["tensors_and_models_bytes"] == 0, 5)
