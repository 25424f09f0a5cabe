"""AI.TENSORSET and AI.TENSORGET, as RedisAI 1.2 documents them; bad input; what survives."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
import redis

from tests.servers import RedisServer, keymiss_info, wait_until


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.mark.parametrize(
    ("dtype", "values", "code"),
    [
        ("FLOAT", [1.5, -2.0], "f"),
        ("DOUBLE", [1.5, 1e300], "d"),
        ("INT8", [-128, 127], "b"),
        ("INT16", [-32768, 5], "h"),
        ("INT32", [-(2**31), 7], "i"),
        ("INT64", [-(2**63), 2**63 - 1], "q"),
        ("UINT8", [0, 255], "B"),
        ("UINT16", [1, 65535], "H"),
        ("BOOL", [0, 1], "?"),
    ],
)
def test_values_and_blob(shard: RedisServer, dtype: str, values: list[float], code: str) -> None:
    client = shard.client()
    execute = client.execute_command
    blob = struct.pack(f"<2{code}", *values)
    assert execute("AI.TENSORSET", "t", dtype, 1, 2, "VALUES", *values) == b"OK"
    assert execute("AI.TENSORGET", "t", "BLOB") == blob
    assert execute("AI.TENSORSET", "u", dtype.lower(), 2, 1, "BLOB", blob) == b"OK"
    assert [float(v) for v in execute("AI.TENSORGET", "u", "VALUES")] == [float(v) for v in values]
    meta = [b"dtype", dtype.encode(), b"shape", [2, 1]]
    assert execute("AI.TENSORGET", "u", "META") == meta
    assert execute("AI.TENSORGET", "u", "META", "BLOB") == [*meta, b"blob", blob]
    assert execute("AI.TENSORGET", "u") == [*meta, b"blob", blob]
    assert execute("AI.TENSORSET", "z", dtype, 3) == b"OK"
    assert [float(v) for v in execute("AI.TENSORGET", "z", "VALUES")] == [0.0] * 3


BAD = [
    (["t"], "wrong number"),
    (["t", "FLOAT"], "wrong number"),
    (["t", "COMPLEX", "1"], "invalid data type"),
    (["t", "FLOAT", "0"], "dimension"),
    (["t", "FLOAT", "-1"], "dimension"),
    (["t", "FLOAT", "x"], "dimension"),
    (["t", "FLOAT", "1.5"], "dimension"),
    (["t", "FLOAT", str(2**62)], "more than 1 GiB"),
    (["t", "FLOAT", *["1000000"] * 12], "more than 1 GiB"),
    (["t", "FLOAT", *["1"] * 33], "32 dimensions"),
    (["t", "FLOAT", "BLOB", "x"], "1 to 32"),
    (["t", "FLOAT", "2", "BLOB"], "BLOB takes one"),
    (["t", "FLOAT", "2", "BLOB", "1234567"], "length of BLOB"),
    (["t", "FLOAT", "2", "BLOB", "12345678", "x"], "BLOB takes one"),
    (["t", "FLOAT", "2", "VALUES", "1"], "number of VALUES"),
    (["t", "FLOAT", "1", "VALUES", "one"], "not a number"),
    (["t", "FLOAT", "1", "VALUES", "1e300"], "out of its range"),
    (["t", "INT8", "1", "VALUES", "128"], "out of its range"),
    (["t", "UINT8", "1", "VALUES", "-1"], "out of its range"),
    (["t", "INT64", "1", "VALUES", str(2**63)], "out of its range"),
    (["t", "BOOL", "1", "VALUES", "2"], "out of its range"),
    (["string", "FLOAT", "1"], "WRONGTYPE"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None
)
def test_bad_tensors(shard: RedisServer, arguments: list[str], message: str) -> None:
    client = shard.client()
    client.set("string", "x")
    client.delete("t")
    before = keymiss_info(client)["tensors_and_models_bytes"]
    with pytest.raises(redis.exceptions.ResponseError, match=message):
        client.execute_command("AI.TENSORSET", *arguments)
    assert client.exists("t") == 0
    assert keymiss_info(client)["tensors_and_models_bytes"] == before


def test_bad_gets(shard: RedisServer) -> None:
    client = shard.client()
    client.set("string", "x")
    client.execute_command("AI.TENSORSET", "t", "FLOAT", 1)
    for arguments, message in (
        (["absent"], "empty"),
        (["string"], "WRONGTYPE"),
        (["t", "FLY"], "unknown option"),
        (["t", "BLOB", "VALUES"], "exclude"),
    ):
        with pytest.raises(redis.exceptions.ResponseError, match=message):
            client.execute_command("AI.TENSORGET", *arguments)


def test_watch_sees_a_change_and_memory_is_given_back(shard: RedisServer) -> None:
    client = shard.client()
    client.flushall()
    client.execute_command("AI.TENSORSET", "t", "FLOAT", 1000)
    assert keymiss_info(client)["tensors_and_models_bytes"] > 4000
    assert client.memory_usage("t") > 4000
    with client.pipeline() as pipe:
        pipe.watch("t")
        shard.client().execute_command("AI.TENSORSET", "t", "FLOAT", 1)
        pipe.multi()
        pipe.ping()
        with pytest.raises(redis.exceptions.WatchError):
            pipe.execute()
    client.copy("t", "copy")
    client.delete("t")
    assert client.execute_command("AI.TENSORGET", "copy", "META")[1] == b"FLOAT"
    client.unlink("copy")
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5)


@pytest.mark.parametrize("appendonly", [False, True])
def test_survives_a_restart_and_reaches_a_replica(appendonly: bool) -> None:
    with RedisServer(appendonly=appendonly) as server, RedisServer() as replica:
        client = server.client()
        client.execute_command("AI.TENSORSET", "t", "INT64", 2, 2, "VALUES", 1, 2, 3, -4)
        client.execute_command(
            "AI.MODELSTORE",
            "m",
            "TORCH",
            "CPU",
            "TAG",
            "v1",
            "INPUTS",
            2,
            "a",
            "b",
            "OUTPUTS",
            1,
            "c",
            "BLOB",
            b"x" * 1000,
            b"y",
        )
        sha256 = "ab" * 32
        version = client.execute_command("KM.MODELINFO", "m")[1]
        assert client.execute_command("KM.MODELDIGEST", "m", version, sha256) == 1
        mirror = replica.client()
        mirror.replicaof("127.0.0.1", server.port)
        wait_until(lambda: mirror.exists("t", "m") == 2, 20)
        client.execute_command("AI.MODELSTORE", "later", "TORCH", "CPU", "BLOB", b"z")
        client.execute_command("KM.MODELDIGEST", "later", "*", sha256)
        wait_until(
            lambda: (mirror.execute_command("KM.MODELINFO", "later") or [b""])[-1] == sha256.encode(), 10
        )
        if appendonly:
            client.config_set("aof-use-rdb-preamble", "no")
            client.bgrewriteaof()
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 10)
        server.restart(save=not appendonly)
        for reader in (server.client(), mirror):
            assert reader.execute_command("AI.TENSORGET", "t", "VALUES") == [1, 2, 3, -4]
            meta = reader.execute_command("AI.MODELGET", "m", "META")
            fields = dict(zip(meta[::2], meta[1::2], strict=True))
            assert (fields[b"tag"], fields[b"inputs"], fields[b"outputs"]) == (b"v1", [b"a", b"b"], [b"c"])
            assert reader.execute_command("AI.MODELGET", "m", "BLOB") == [b"x" * 1000, b"y"]
            assert reader.execute_command("KM.MODELINFO", "m")[11] == sha256.encode()
