"""RedisAI's values are read from RESTORE and dump files, and become ours; damaged ones are refused.
KEYMISS_TEST_FUZZ says how many of these are tried."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.cluster import redisai_payloads as payloads
from tests.cluster.test_restore_corrupt import crc64
from tests.cluster.torch_models import Adds, torch_blob
from tests.damage import damaged_at_random
from tests.servers import RedisServer, WorkerProcess, keymiss_info, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

ENCODINGS = range(5)
DAMAGED = 75 * int(os.environ.get("KEYMISS_TEST_FUZZ", "20"))
NEW = b"def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0] + tensors[1]\n"
OLD = b"def f(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(shard: RedisServer) -> Iterator[Any]:
    with shard.client() as connected:
        connected.flushall()
        yield connected


def becomes(client: redis.Redis, key: str, type_name: bytes) -> None:
    wait_until(lambda: client.type(key) == type_name, 5, f"{key} is {type_name!r}")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("code", "bits", "name", "data", "values"),
    [
        (0, 32, b"INT32", struct.pack("<2i", 1, -2), [1, -2]),
        (0, 64, b"INT64", struct.pack("<2q", 1, -2), [1, -2]),
        (1, 8, b"UINT8", b"\x01\xff", [1, 255]),
        (2, 32, b"FLOAT", struct.pack("<2f", 1.5, -2), [b"1.5", b"-2"]),
        (2, 64, b"DOUBLE", struct.pack("<2d", 1.5, -2), [b"1.5", b"-2"]),
        (6, 8, b"BOOL", b"\x01\x00", [1, 0]),
    ],
)
def test_tensors(
    client: Any, encoding: int, code: int, bits: int, name: bytes, data: bytes, values: list[Any]
) -> None:
    client.restore("t", 0, payloads.tensor(encoding, code, bits, [2, 1], data))
    for _ in range(2):  # at once, and when it is ours
        assert client.execute_command("AI.TENSORGET", "t", "META", "VALUES") == [
            *(b"dtype", name, b"shape", [2, 1], b"values", values)
        ]
        becomes(client, "t", b"km-tensor")
    assert (
        client.dump("t")[:10]
        == client.dump("t")[:10]
        != payloads.tensor(encoding, code, bits, [2, 1], data)[:10]
    )


def test_strings_and_scalars(client: Any) -> None:
    client.restore("s", 0, payloads.tensor(4, 7, 8, [2], b"one\0two\0", [0, 4]))
    client.restore("n", 0, payloads.tensor(4, 0, 16, [], b"\x05\x00"))
    assert client.execute_command("AI.TENSORGET", "s", "VALUES") == [b"one", b"two"]
    assert client.execute_command("AI.TENSORGET", "n", "META", "VALUES")[3:] == [[], b"values", [5]]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_models(client: Any, encoding: int) -> None:
    payload = payloads.model(encoding, "TORCH", b"abcdef", names=([b"a", b"b"], [b""]), chunk=4)
    client.restore("m", 0, payload)
    reply = client.execute_command("AI.MODELGET", "m")
    assert reply[1::2] == [
        *(b"TORCH", b"CPU", b"my tag", 4, 2, [b"a", b"b"], [b""], 1000 if encoding >= 2 else 0, b"abcdef")
    ]
    becomes(client, "m", b"km-aimodl")
    assert client.execute_command("AI.MODELGET", "m") == reply
    assert client.execute_command("AI.INFO", "m")[3] == b"MODEL"


@pytest.mark.parametrize("backend", ["TF", "TFLITE"])
def test_models_that_do_not_run_here_are_kept(client: Any, backend: str) -> None:
    client.restore("m", 0, payloads.model(4, backend, b"a graph", names=([b"a"], [b"b"])))
    assert client.execute_command("AI.MODELGET", "m", "BLOB") == b"a graph"
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 1)
    with pytest.raises(redis.ResponseError, match="TORCH and ONNX do"):
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_scripts(client: Any, encoding: int) -> None:
    points = [b"f", b"g"] if encoding >= 3 else []
    client.restore("s", 0, payloads.script(encoding, NEW, points))
    reply = client.execute_command("AI.SCRIPTGET", "s")
    assert reply[1::2] == [b"CPU", b"a tag", points, NEW]
    becomes(client, "s", b"km-script")
    assert client.execute_command("AI.SCRIPTGET", "s") == reply


def test_they_run(shard: RedisServer, client: Any) -> None:
    client.restore("m", 0, payloads.model(0, "TORCH", torch_blob(Adds()), batch=(0, 0, 0)))
    client.restore("old", 0, payloads.script(0, OLD))
    client.restore("new", 0, payloads.script(4, NEW, [b"f"]))
    client.restore("t", 0, payloads.tensor(0, 2, 32, [2], struct.pack("<2f", 1, 2)))
    with WorkerProcess(shard):
        wait_until(lambda: keymiss_info(client)["workers"] == 1, 20)
        named = [[b"a", b"b"], [b""], 0]  # by the worker, which looks into it
        wait_until(lambda: client.execute_command("AI.MODELGET", "m", "META")[11::2] == named, 20)
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "t", "t", "OUTPUTS", 1, "sum")
        assert client.execute_command("AI.TENSORGET", "sum", "VALUES") == [b"2", b"4"]
        for key in ("old", "new"):
            client.execute_command(
                "AI.SCRIPTEXECUTE", key, "f", "INPUTS", 2, "t", "t", "OUTPUTS", 1, key + "-sum"
            )
            assert client.execute_command("AI.TENSORGET", key + "-sum", "VALUES") == [b"2", b"4"]


def test_time_to_live_other_databases_and_what_was_written_meanwhile(shard: RedisServer, client: Any) -> None:
    payload = payloads.tensor(1, 0, 8, [1], b"\x07")
    client.restore("short", 60000, payload)
    client.restore("gone", 0, payload)
    client.delete("gone")
    client.restore("other", 0, payload)
    client.set("other", "a string")
    with shard.client(db=3) as third:
        third.restore("t", 0, payload)
        becomes(third, "t", b"km-tensor")
        assert third.execute_command("AI.TENSORGET", "t", "VALUES") == [7]
        third.flushdb()
    becomes(client, "short", b"km-tensor")
    assert 50000 < client.pttl("short") <= 60000
    assert client.exists("gone") == 0
    assert client.get("other") == b"a string"
    client.flushall()
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5)


def test_from_a_dump_file_and_to_a_replica() -> None:
    with RedisServer() as server, RedisServer() as replica, server.client() as client:
        replica.client().replicaof("127.0.0.1", server.port)
        wait_until(lambda: client.info("replication")["connected_slaves"] == 1, 20)
        with client.pipeline(transaction=True) as pipe:  # saved before it can become ours
            pipe.restore("t", 0, payloads.tensor(2, 0, 8, [1], b"\x07"))
            pipe.restore("m", 0, payloads.model(2, "ONNX", b"blob"))
            pipe.restore("s", 0, payloads.script(2, OLD))
            pipe.execute_command("DEBUG", "RELOAD")
            assert pipe.execute()[3] in (True, b"OK")
        with replica.client() as mirror:
            wait_until(lambda: mirror.exists("t", "m", "s") == 3, 20)
            server.restart(save=True)
            with server.client() as reader:
                for one in (reader, mirror):
                    for key, type_name in ("t", b"km-tensor"), ("m", b"km-aimodl"), ("s", b"km-script"):
                        becomes(one, key, type_name)
                    assert one.execute_command("AI.TENSORGET", "t", "VALUES") == [7]
                    assert one.execute_command("AI.MODELGET", "m", "BLOB") == b"blob"
                    assert one.execute_command("AI.SCRIPTGET", "s", "SOURCE") == OLD


REFUSED = {
    "an unknown version": payloads.sealed("AI_TENSOR", 6, b""),
    "an unknown type": payloads.tensor(4, 3, 32, [1], b"1234"),
    "too many dimensions": payloads.tensor(4, 0, 8, [1] * 33, b"1"),
    "a huge dimension": payloads.tensor(4, 0, 8, [2**62, 8], b"1"),
    "a dimension of 0": payloads.tensor(4, 0, 8, [0], b""),
    "too little data": payloads.tensor(4, 0, 32, [2], b"1234"),
    "strings that begin elsewhere": payloads.tensor(4, 7, 8, [2], b"one\0two\0", [0, 3]),
    "strings that are too few": payloads.tensor(4, 7, 8, [3], b"one\0two\0", [0, 4, 8]),
    "a bool that is neither": payloads.tensor(4, 6, 8, [1], b"\x02"),
    "an unknown backend": payloads.sealed("AI__MODEL", 4, payloads.number(4)),
    "a model without a blob": payloads.model(4, "ONNX", b""),
    "a huge batch": payloads.model(4, "ONNX", b"x", batch=(2**40, 0, 0)),
    "a script with a NUL": payloads.script(4, b"a\0b"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(client: Any, what: str) -> None:
    with pytest.raises(redis.ResponseError, match="Bad data format"):
        client.restore("x", 0, REFUSED[what])
    assert client.exists("x") == 0


SOURCES = [
    payloads.tensor(0, 0, 32, [2, 2], bytes(16)),
    payloads.tensor(4, 7, 8, [3], b"a\0bcd\0\0", [0, 2, 6]),
    payloads.model(0, "TORCH", b"m" * 90, names=([b"a", b"b"], [b"c"])),
    payloads.model(4, "ONNX", b"m" * 90, names=([b"a", b"b"], [b"c"]), chunk=20),
    payloads.script(1, OLD * 3),
    payloads.script(4, NEW, [b"f", b"g"]),
]


@pytest.mark.parametrize("number", range(len(SOURCES)))
def test_random_damage(server: RedisServer, number: int) -> None:
    """Bytes changed, removed, repeated or inserted: refused, or a value that every command can read."""
    client, rng = server.client(), random.Random(number)
    payload = SOURCES[number]
    head, body, version = payload[:10], payload[10:-10], payload[-10:-8]
    accepted = refused = 0
    for _ in range(DAMAGED):
        raw = head + damaged_at_random(rng, body) + version
        try:
            client.restore("copy", 0, raw + crc64(raw).to_bytes(8, "little"), replace=True)
        except redis.ResponseError:
            refused += 1
            continue
        accepted += 1
        for command in ("AI.TENSORGET", "AI.MODELGET", "AI.SCRIPTGET", "AI.INFO"):
            try:
                client.execute_command(command, "copy")
            except redis.ResponseError as error:
                assert "WRONGTYPE" in str(error) or "run info" in str(error)  # noqa: PT017
        client.dump("copy")
        client.memory_usage("copy")
        client.copy("copy", "again", replace=True)
    assert refused > DAMAGED // 15
    assert refused + accepted == DAMAGED
    client.flushall()
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5)
    assert server.alive
