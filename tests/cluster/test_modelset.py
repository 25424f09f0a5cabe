"""AI.MODELSET, by which programs of RedisAI 1.0 store a model: AI.MODELSTORE with names not counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.hand_worker import HandWorker, register_events
from tests.servers import RedisServer, keymiss_info, wait_until


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def meta(client: redis.Redis, key: str) -> dict[str, Any]:
    """AI.MODELGET META as a dictionary."""
    reply = client.execute_command("AI.MODELGET", key, "META")
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def test_what_modelstore_stores_too(shard: RedisServer) -> None:
    client = shard.client()
    options = ("TAG", "v1", "BATCHSIZE", 4, "MINBATCHSIZE", 2, "MINBATCHTIMEOUT", 9)
    blob = ("BLOB", b"abc", b"", b"defg")
    store, set_ = ("AI.MODELSTORE", "stored"), ("AI.MODELSET", "set")
    assert client.execute_command(*set_, "torch", "cpu", *options, *blob) == b"OK"
    assert client.execute_command(*store, "torch", "cpu", *options, *blob) == b"OK"
    first, second = client.execute_command("DEBUG", "DIGEST-VALUE", "set", "stored")
    assert first == second
    read = b""
    while chunk := client.execute_command("KM.MODELCHUNK", "set", "*", len(read), 5):
        read += chunk
    assert read == b"abcdefg"


@pytest.mark.parametrize(
    "options",
    [
        ("INPUTS", "a", "b", "OUTPUTS", "c", "TAG", "v1", "BATCHSIZE", 3),
        ("BATCHSIZE", 3, "TAG", "v1", "INPUTS", "a", "b", "OUTPUTS", "c"),
        ("outputs", "c", "tag", "v1", "inputs", "a", "b", "batchsize", 3),
    ],
)
def test_names_end_where_the_next_option_begins(shard: RedisServer, options: tuple[object, ...]) -> None:
    client = shard.client()
    assert client.execute_command("AI.MODELSET", "m", "ONNX", "GPU:0", *options, "BLOB", b"x") == b"OK"
    found = meta(client, "m")
    assert (found["inputs"], found["outputs"], found["tag"]) == ([b"a", b"b"], [b"c"], b"v1")
    assert (found["backend"], found["device"], found["batchsize"]) == (b"ONNX", b"GPU:0", 3)
    client.delete("m")


BAD = [
    (["m"], "wrong number"),
    (["m", "TF", "CPU", "INPUTS", "a", "OUTPUTS", "b", "BLOB", "x"], "TORCH and ONNX do"),
    (["m", "TF", "CPU", "BLOB", "x"], "INPUTS and OUTPUTS not specified"),
    (["m", "TF", "CPU", "INPUTS", "a", "b"], "OUTPUTS not specified"),
    (["m", "TF", "CPU", "INPUTS", "a", "OUTPUTS", "b"], "missing model BLOB"),
    (["m", "TFLITE", "CPU", "BLOB", "x"], "TORCH and ONNX do"),
    (["m", "TORCH", "BLOB", "x", "y"], "Invalid DEVICE"),
    (["m", "TORCH", "CPU", "TAG", "v1"], "missing model BLOB"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "2", "NO_BLOB"], "missing model BLOB"),
    (["m", "TORCH", "CPU", "BLOB", ""], "empty"),
    (["m", "TORCH", "CPU", "INPUTS", "OUTPUTS", "c", "BLOB", "x"], "1 to 1024 names"),
    (["m", "TORCH", "CPU", "INPUTS", *["a"] * 1025, "BLOB", "x"], "1 to 1024 names"),
    (["m", "TORCH", "CPU", "INPUTS", "a", "b"], "BLOB"),
    (["m", "TORCH", "CPU", "FLY", "1", "BLOB", "x"], "unknown option"),
    (["m", "TORCH", "CPU", "BATCHSIZE", "-1", "BLOB", "x"], "Invalid argument for BATCHSIZE"),
    (["m", "TORCH", "CPU", "MINBATCHSIZE", "2", "BLOB", "x"], "MINBATCHSIZE specified without BATCHSIZE"),
    (["string", "TORCH", "CPU", "BLOB", "x"], "WRONGTYPE"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None
)
def test_what_cannot_be_stored_is_refused(shard: RedisServer, arguments: list[str], message: str) -> None:
    client = shard.client()
    client.set("string", "x")
    with pytest.raises(redis.exceptions.ResponseError, match=message):
        client.execute_command("AI.MODELSET", *arguments)
    assert client.exists("m") == 0


def test_its_key_is_known(shard: RedisServer) -> None:
    client = shard.client()
    client.execute_command("ACL", "SETUSER", "one", "on", "nopass", "~mine*", "+ai.modelset")
    with shard.client(username="one", password="") as one:
        assert one.execute_command("AI.MODELSET", "mine", "TORCH", "CPU", "BLOB", b"x") == b"OK"
        with pytest.raises(redis.exceptions.NoPermissionError):
            one.execute_command("AI.MODELSET", "yours", "TORCH", "CPU", "BLOB", b"x")
        with pytest.raises(redis.exceptions.NoPermissionError):
            one.execute_command("AI.MODELSTORE", "mine", "TORCH", "CPU", "BLOB", b"x")


def test_functions_that_wait_for_a_model_hear_of_it(shard: RedisServer) -> None:
    client = shard.client()
    register_events(client, "heard", "modelstore")
    worker = HandWorker(shard)
    client.execute_command("AI.MODELSET", "heard", "TORCH", "CPU", "BLOB", b"x")
    (job,) = worker.pull()
    assert (job.kind, job.event, job.key) == ("event", "modelstore", b"heard")
    worker.done(job, b"+OK\r\n")


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_it_is_in_the_append_only_file(preamble: str) -> None:
    with RedisServer("--aof-use-rdb-preamble", preamble, appendonly=True) as server:
        client = server.client()
        for key in ("before", "after"):
            client.execute_command("AI.MODELSET", key, "TORCH", "CPU", "INPUTS", "a", "BLOB", b"x")
            if key == "before":
                client.bgrewriteaof()
                wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 10)
        server.restart(save=False)
        with server.client() as reader:
            for key in ("before", "after"):
                assert meta(reader, key)["inputs"] == [b"a"]


def test_in_a_transaction_and_in_a_script_it_replies_at_once(shard: RedisServer) -> None:
    client = shard.client()
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("AI.MODELSET", "m", "TORCH", "CPU", "BLOB", *[b"z" * 100] * 1000)
        pipe.execute_command("FLUSHALL", "ASYNC")
        assert pipe.execute()[0] == b"OK"
    script = "return redis.call('AI.MODELSET', 'm', 'TORCH', 'CPU', 'BLOB', ARGV[1])"
    assert client.eval(script, 0, b"z") == b"OK"
    client.delete("m")
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5)
