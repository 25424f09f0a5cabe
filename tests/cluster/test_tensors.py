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
    (["t", "FLOAT", "0"], "tensor shape"),
    (["t", "FLOAT", "-1"], "tensor shape"),
    (["t", "FLOAT", "x"], "tensor shape"),
    (["t", "FLOAT", "1.5"], "tensor shape"),
    (["t", "FLOAT", str(2**62)], "more than 1 GiB"),
    (["t", "FLOAT", *["1000000"] * 12], "more than 1 GiB"),
    (["t", "FLOAT", *["1"] * 33], "32 dimensions"),
    (["t", "FLOAT", "BLOB", "x"], "data length"),
    (["t", "FLOAT", "2", "BLOB"], "single binary string"),
    (["t", "FLOAT", "2", "BLOB", "1234567"], "data length"),
    (["t", "FLOAT", "2", "BLOB", "12345678", "x"], "single binary string"),
    (["t", "FLOAT", "2", "VALUES", "1"], "wrong number of values"),
    (["t", "FLOAT", "1", "VALUES", "one"], "invalid value"),
    (["t", "FLOAT", "1", "VALUES", "1e300"], "invalid value"),
    (["t", "INT8", "1", "VALUES", "128"], "invalid value"),
    (["t", "UINT8", "1", "VALUES", "-1"], "invalid value"),
    (["t", "INT64", "1", "VALUES", str(2**63)], "invalid value"),
    (["t", "BOOL", "1", "VALUES", "2"], "invalid value"),
    (["t", "STRING", "2", "VALUES", "a", "b\0c"], "null character"),
    (["t", "STRING", "2", "BLOB", "a\0b"], "Number of string elements"),
    (["t", "STRING", "2", "BLOB", "a\0b\0c\0"], "Number of string elements"),
    (["t", "STRING", "2", "BLOB", "a\0"], "Number of string elements"),
    (["string", "FLOAT", "1"], "WRONGTYPE"),
    (["string", "COMPLEX", "1"], "WRONGTYPE"),
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


def test_strings(shard: RedisServer) -> None:
    """Each is bytes without NUL; a NUL behind it is its end, given or not."""
    execute = shard.client().execute_command
    assert execute("AI.TENSORSET", "s", "STRING", 3, "VALUES", "one", "\xfcber\0", "") == b"OK"
    assert execute("AI.TENSORGET", "s", "VALUES") == [b"one", "\xfcber".encode(), b""]
    blob = execute("AI.TENSORGET", "s", "BLOB")
    assert blob == "one\0\xfcber\0\0".encode()
    execute("AI.TENSORSET", "s2", "STRING", 3, 1, "BLOB", blob)
    assert execute("AI.TENSORGET", "s2", "META", "VALUES")[3:] == [
        [3, 1],
        b"values",
        execute("AI.TENSORGET", "s", "VALUES"),
    ]
    execute("AI.TENSORSET", "s3", "STRING", 2)
    assert execute("AI.TENSORGET", "s3", "VALUES") == [b"", b""]
    assert shard.client().copy("s", "s4")
    assert execute("AI.TENSORGET", "s4", "BLOB") == blob


def test_a_scalar_has_no_dimensions(shard: RedisServer) -> None:
    execute = shard.client().execute_command
    execute("AI.TENSORSET", "scalar", "INT64", "VALUES", -5)
    assert execute("AI.TENSORGET", "scalar", "META", "VALUES") == [
        b"dtype",
        b"INT64",
        b"shape",
        [],
        b"values",
        [-5],
    ]
    payload = shard.client().dump("scalar")
    shard.client().restore("scalar2", 0, payload, replace=True)
    assert execute("AI.TENSORGET", "scalar2") == execute("AI.TENSORGET", "scalar")


def test_bad_gets(shard: RedisServer) -> None:
    client = shard.client()
    client.set("string", "x")
    client.execute_command("AI.TENSORSET", "t", "FLOAT", 1)
    for arguments, message in (
        (["absent"], "empty"),
        (["string"], "WRONGTYPE"),
        (["t", "FLY"], "unsupported data format"),
        (["string", "FLY"], "WRONGTYPE"),
        (["t", "BLOB", "VALUES"], "both BLOB and VALUES specified"),
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
        client.execute_command("AI.TENSORSET", "s", "STRING", 2, "VALUES", "a", "bc")
        source = "def f(a):\n    return a\n"
        client.execute_command("AI.SCRIPTSET", "old", "CPU", "TAG", "v2", "SOURCE", source)
        client.execute_command("AI.SCRIPTSTORE", "new", "CPU", "ENTRY_POINTS", 2, "f", "g", "SOURCE", source)
        client.execute_command(
            "AI.MODELSET",
            "m",
            "TORCH",
            "CPU",
            "TAG",
            "v1",
            "INPUTS",
            "a",
            "b",
            "OUTPUTS",
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
        wait_until(lambda: mirror.exists("t", "m", "old", "new", "s") == 5, 20)
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
            assert reader.execute_command("AI.TENSORGET", "s", "VALUES") == [b"a", b"bc"]
            old, new = (reader.execute_command("AI.SCRIPTGET", key) for key in ("old", "new"))
            assert old[1::2] == [b"CPU", b"v2", [], source.encode()]
            assert new[1::2] == [b"CPU", b"", [b"f", b"g"], source.encode()]
            meta = reader.execute_command("AI.MODELGET", "m", "META")
            fields = dict(zip(meta[::2], meta[1::2], strict=True))
            assert (fields[b"tag"], fields[b"inputs"], fields[b"outputs"]) == (b"v1", [b"a", b"b"], [b"c"])
            assert reader.execute_command("AI.MODELGET", "m", "BLOB") == b"x" * 1000 + b"y"
            assert reader.execute_command("KM.MODELINFO", "m")[11] == sha256.encode()
