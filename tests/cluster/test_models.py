"""AI.MODELSTORE, MODELGET, MODELDEL, INFO, and what workers ask: KM.MODELINFO, MODELCHUNK, MODELDIGEST."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.hand_worker import Asker, HandWorker
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


BAD = [
    (["m"], "wrong number"),
    (["m", "CAFFE", "CPU", "BLOB", "x", "y"], "unsupported backend"),
    (["m", "TORCH", "TPU", "BLOB", "x"], "invalid device"),
    (["m", "TORCH", "CPU:x", "BLOB", "x"], "invalid device"),
    (["m", "TORCH", "CPU", "TAG", "BLOB"], "BLOB"),
    (["m", "TORCH", "CPU", "BLOB", ""], "empty"),
    (["m", "TORCH", "CPU", "INPUTS", "4", "a", "BLOB", "x"], "INPUTS and OUTPUTS"),
    (["m", "TORCH", "CPU", "FLY", "1", "BLOB", "x"], "unknown option"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "-1", "BLOB", "x"], "batch setting"),
    (["m", "TORCH", "CPU", "MINBATCHSIZE", "2", "BLOB", "x"], "needs BATCHSIZE"),
    (["string", "TORCH", "CPU", "BLOB", "x"], "WRONGTYPE"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None
)
def test_bad_models(shard: RedisServer, arguments: list[str], message: str) -> None:
    client = shard.client()
    client.set("string", "x")
    with pytest.raises(redis.exceptions.ResponseError, match=message):
        client.execute_command("AI.MODELSTORE", *arguments)
    assert client.exists("m") == 0


def test_chunks_versions_digests(shard: RedisServer) -> None:
    execute = shard.client().execute_command
    execute("AI.MODELSTORE", "c", "TORCH", "cpu", "BLOB", b"abc", b"defg")
    info = dict(zip(*[iter(execute("KM.MODELINFO", "c"))] * 2, strict=True))
    version = info[b"version"]
    assert (info[b"size_bytes"], info[b"device"], info[b"sha256"]) == (7, b"CPU", b"")
    read = b""
    while chunk := execute("KM.MODELCHUNK", "c", version, len(read), 2):
        read += chunk
    assert read == b"abcdefg"
    execute("AI.MODELSTORE", "c", "TORCH", "CPU", "BLOB", b"new")
    for stale in ("KM.MODELCHUNK", "c", version, 0, 2), ("KM.MODELDIGEST", "c", version, "ab" * 32):
        with pytest.raises(redis.exceptions.ResponseError, match="was replaced"):
            execute(*stale)
    with pytest.raises(redis.exceptions.ResponseError, match="64 lower-case"):
        execute("KM.MODELDIGEST", "c", "*", "xyz")
    assert execute("KM.MODELINFO", "absent") is None


def test_info_counts_and_resets(shard: RedisServer) -> None:
    execute = shard.client().execute_command
    execute("AI.MODELSTORE", "i", "TORCH", "CPU", "TAG", "t", "BLOB", b"x")
    execute("KM.MODELRAN", "i", 2, 5, 1500, 1)
    reply = execute("AI.INFO", "i")
    assert reply[0::2] == [
        b"key",
        b"type",
        b"backend",
        b"device",
        b"tag",
        b"duration",
        b"samples",
        b"calls",
        b"errors",
    ]
    assert reply[1::2] == [b"i", b"MODEL", b"TORCH", b"CPU", b"t", 1500, 5, 2, 1]
    assert execute("AI.INFO", "i", "RESETSTAT") == b"OK"
    assert execute("AI.INFO", "i")[11::2] == [0, 0, 0, 0]
    execute("AI.MODELDEL", "i")
    with pytest.raises(redis.exceptions.ResponseError, match="model key is empty"):
        execute("AI.INFO", "i")


def test_execute_is_checked_then_a_job(shard: RedisServer) -> None:
    client = shard.client()
    execute = client.execute_command
    execute("AI.MODELSTORE", "m2", "TORCH", "CPU", "BLOB", b"x")
    execute("AI.TENSORSET", "in", "FLOAT", 1)
    for bad, message in (
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 0, "out"), "syntax"),
        (("m2", "INPUTS", 9, "in", "OUTPUTS", 1, "out"), "syntax"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 1, "out", "x"), "syntax"),
        (("no", "INPUTS", 1, "in", "OUTPUTS", 1, "out"), "model key"),
        (("m2", "INPUTS", 1, "no", "OUTPUTS", 1, "out"), "tensor key"),
    ):
        with pytest.raises(redis.exceptions.ResponseError, match=message):
            execute("AI.MODELEXECUTE", *bad)
    keys = execute("COMMAND GETKEYS", "AI.MODELEXECUTE", "m2", "INPUTS", 1, "in", "OUTPUTS", 2, "o1", "o2")
    assert [k if isinstance(k, str) else k.decode() for k in keys] == ["m2", "in", "o1", "o2"]
    worker = HandWorker(shard)
    asker = Asker(shard, "AI.MODELEXECUTE", "m2", "INPUTS", 1, "in", "OUTPUTS", 1, "out", "TIMEOUT", 5000)
    (job,) = worker.pull()
    assert (job.kind, job.payload) == ("model", [b"m2", b"1", b"in", b"1", b"out"])
    worker.done(job, b"+OK\r\n")
    assert asker.result() == b"OK"


def test_config_says_how_large_a_chunk_is(shard: RedisServer) -> None:
    execute = shard.client().execute_command
    assert int(execute("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE")) == 256 * 1024 * 1024
    assert execute("AI.CONFIG", "GET", "OTHER") is None
    with pytest.raises(redis.exceptions.ResponseError, match="the syntax is"):
        execute("AI.CONFIG", "SET", "x")
