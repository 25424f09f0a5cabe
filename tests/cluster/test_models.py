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
    (["m", "TORCH", "BLOB", "x"], "wrong number"),
    (["m", "CAFFE", "CPU", "BLOB", "x", "y"], "unsupported backend"),
    (["m", "TORCH", "TPU", "BLOB", "x"], "Invalid DEVICE"),
    (["m", "TORCH", "CPU:x", "BLOB", "x"], "Invalid DEVICE"),
    (["m", "TORCH", "CPU:123456", "BLOB", "x"], "Invalid DEVICE"),
    (["m", "TORCH", "CPU", "TAG", "BLOB"], "missing model BLOB"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "2"], "missing model BLOB"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "2", "BLOB"], "missing model BLOB"),
    (["m", "TORCH", "CPU", "BLOB", ""], "empty"),
    (["m", "TORCH", "CPU", "INPUTS", "4", "a", "BLOB", "x"], "number of model inputs"),
    (["m", "TORCH", "CPU", "INPUTS", "1", "a", "BLOB", "x"], "INPUTS argument should not be specified"),
    (["m", "ONNX", "CPU", "OUTPUTS", "1", "a", "BLOB", "x"], "should not be specified for this backend"),
    (["m", "TORCH", "CPU", "FLY", "1", "BLOB", "x"], "expected BLOB"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "-1", "BLOB", "x"], "Invalid argument for BATCHSIZE"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "2", "MINBATCHSIZE", "x", "BLOB", "x"], "for MINBATCHSIZE"),
    (["m", "TORCH", "CPU", "MINBATCHSIZE", "2", "BLOB", "x"], "MINBATCHSIZE specified without BATCHSIZE"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "2", "MINBATCHTIMEOUT", "2", "BLOB", "x"], "without MINBATCHSIZE"),
    (["m", "TF", "CPU", "BLOB", "x"], "INPUTS not specified for TF"),
    (["m", "TF", "CPU", "INPUTS", "1", "a", "BLOB", "x"], "OUTPUTS not specified for TF"),
    (["m", "TF", "CPU", "INPUTS", "1", "a", "OUTPUTS", "1", "b", "BLOB", "x"], "TORCH and ONNX do"),
    (["m", "TFLITE", "CPU", "BLOB", "x"], "TORCH and ONNX do"),
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
    with pytest.raises(redis.exceptions.ResponseError, match="cannot find run info for key"):
        execute("AI.INFO", "i")


def test_execute_is_checked_then_a_job(shard: RedisServer) -> None:
    client = shard.client()
    execute = client.execute_command
    execute("AI.MODELSTORE", "m2", "TORCH", "CPU", "BLOB", b"x")
    execute("AI.TENSORSET", "in", "FLOAT", 1)
    for bad, message in (
        (("m2", "IN", 1, "in", "OUTPUTS", 1, "out"), "INPUTS not specified"),
        (("m2", "INPUTS", "x", "in", "OUTPUTS", 1, "out"), "Invalid argument for input_count"),
        (("m2", "INPUTS", 0, "in", "OUTPUTS", 1, "out"), "Input count must be a positive integer"),
        (("m2", "INPUTS", 1, "in", "OUT", 1, "out"), "OUTPUTS not specified"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", "x", "out"), "Invalid argument for output_count"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 0, "out"), "Output count must be a positive integer"),
        (("m2", "INPUTS", 9, "in", "OUTPUTS", 1, "out"), "number of input keys to AI.MODELEXECUTE"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 2, "out"), "number of output keys to AI.MODELEXECUTE"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 1, "out", "x"), "Invalid argument: x"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 1, "out", "TIMEOUT"), "No value provided for TIMEOUT"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 1, "out", "TIMEOUT", 0), "Invalid value for TIMEOUT"),
        (("m2", "INPUTS", 1, "in", "OUTPUTS", 1, "out", "TIMEOUT", 9, "x"), "Invalid argument: x"),
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
    assert int(execute("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE")) == 511 * 1024 * 1024
    assert execute("AI.CONFIG", "GET", "OTHER") is None
    for bad, message in (
        (("SET", "x"), "unsupported subcommand"),
        (("MODEL_CHUNK_SIZE",), "missing chunk size"),
        (("MODEL_CHUNK_SIZE", 0), "invalid chunk size"),
        (("LOADBACKEND", "CAFFE", "x"), "unsupported backend"),
        (("LOADBACKEND", "TORCH", "x"), "error loading backend: .* TORCH and ONNX"),
        (("BACKENDSPATH",), "missing path argument"),
        (("BACKENDSPATH", "/x"), "no libraries to find"),
    ):
        with pytest.raises(redis.exceptions.ResponseError, match=message):
            execute("AI.CONFIG", *bad)


def test_a_blob_comes_in_chunks_of_that_size_however_it_was_stored(shard: RedisServer) -> None:
    execute = shard.client().execute_command
    blob = bytes(range(100))
    execute("AI.MODELSTORE", "whole", "TORCH", "CPU", "BLOB", blob)
    execute("AI.MODELSTORE", "cut", "TORCH", "CPU", "BLOB", blob[:33], blob[33:40], b"", blob[40:])
    try:
        for key in ("whole", "cut"):
            assert execute("AI.MODELGET", key, "BLOB") == blob
            assert execute("AI.CONFIG", "MODEL_CHUNK_SIZE", 30) == b"OK"
            assert execute("AI.MODELGET", key, "BLOB") == [blob[:30], blob[30:60], blob[60:90], blob[90:]]
            assert execute("AI.MODELGET", key)[-1] == execute("AI.MODELGET", key, "BLOB")
            execute("AI.CONFIG", "MODEL_CHUNK_SIZE", 50)
            assert b"".join(execute("AI.MODELGET", key, "BLOB")) == blob
            execute("AI.CONFIG", "MODEL_CHUNK_SIZE", 511 * 1024 * 1024)
    finally:
        execute("AI.CONFIG", "MODEL_CHUNK_SIZE", 511 * 1024 * 1024)
