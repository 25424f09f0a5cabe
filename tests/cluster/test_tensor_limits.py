"""Sizes at and over the limits of tensors, and payloads that no server wrote."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.cluster.test_restore_corrupt import crc64
from tests.damage import damaged_at_random
from tests.servers import RedisServer, keymiss_info, wait_until


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.mark.parametrize(
    "dims", [(0, 2**63 - 1, 2), (2**63 - 1, 2**63 - 1), (-1, -1), (-(2**63), 2), (2**31, 2**32, 2)]
)
def test_products_that_overflow(shard: RedisServer, dims: tuple[int, ...]) -> None:
    client = shard.client()
    for data in (), ("BLOB", b"x"), ("VALUES", 1):
        with pytest.raises(redis.exceptions.ResponseError, match=r"dimensions|tensor shape"):
            client.execute_command("AI.TENSORSET", "t", "INT8", *dims, *data)
    assert shard.alive


def test_values_of_a_large_tensor_are_refused_its_blob_is_not(shard: RedisServer) -> None:
    client = shard.client()
    client.execute_command("AI.TENSORSET", "large", "INT8", 2**22 + 1)
    with pytest.raises(redis.exceptions.ResponseError, match="ask for its BLOB"):
        client.execute_command("AI.TENSORGET", "large", "META", "VALUES")
    assert client.execute_command("AI.TENSORGET", "large", "BLOB") == bytes(2**22 + 1)
    client.delete("large")


def test_a_bool_that_is_neither(shard: RedisServer) -> None:
    client = shard.client()
    client.execute_command("AI.TENSORSET", "b", "BOOL", 3, "BLOB", b"\x00\x01\x01")
    with pytest.raises(redis.exceptions.ResponseError, match="must be 0 or 1"):
        client.execute_command("AI.TENSORSET", "b", "BOOL", 3, "BLOB", b"\x00\x01\x07")
    assert client.execute_command("AI.TENSORGET", "b", "VALUES") == [0, 1, 1]
    payload = client.dump("b")
    damaged = payload[:-8].replace(b"\x00\x01\x01", b"\x00\x01\x07")
    assert damaged != payload[:-8]
    with pytest.raises(redis.exceptions.ResponseError, match="Bad data format"):
        client.restore("c", 0, damaged + crc64(damaged).to_bytes(8, "little"))


SOURCES = [
    ("AI.TENSORSET", "k", "DOUBLE", 4, 4),
    ("AI.TENSORSET", "k", "UINT8", 2, 100, "BLOB", bytes(200)),  # saved compressed
    ("AI.TENSORSET", "k", "INT16", *[1] * 32, "VALUES", 7),
    ("AI.TENSORSET", "k", "STRING", 3, 2, "VALUES", "a", "", "bcd", "e" * 40, "f", "g"),
    ("AI.SCRIPTSTORE", "k", "CPU", "TAG", "t", "ENTRY_POINTS", 2, "f", "g", "SOURCE", "def f(): pass\n" * 20),
    (
        "AI.MODELSTORE",
        "k",
        "ONNX",
        "GPU:1",
        "TAG",
        "t" * 100,
        "BATCHSIZE",
        4,
        "MINBATCHSIZE",
        2,
        "BLOB",
        b"m" * 500,
        b"12345",
    ),
    (
        "AI.MODELSET",
        "k",
        "TORCH",
        "CPU",
        "INPUTS",
        "a",
        "b",
        "c",
        "OUTPUTS",
        "d",
        "e",
        "BLOB",
        *[b"x"] * 70,
    ),
]


@pytest.mark.parametrize(
    "make", SOURCES, ids=["zeros", "compressed", "32-dims", "strings", "script", "batches", "chunks"]
)
def test_random_damage(server: RedisServer, make: tuple[Any, ...]) -> None:
    """Bytes changed, removed, repeated or inserted: refused, or a value that every command can read."""
    client = server.client()
    client.execute_command(*make)
    if make[0].startswith("AI.MODEL"):
        client.execute_command("KM.MODELDIGEST", "k", "*", "0f" * 32)
    payload = client.dump("k")
    body, version = payload[9:-10], payload[-10:-8]
    rng = random.Random(11)
    refused = accepted = 0
    for _ in range(800):
        raw = payload[:9] + damaged_at_random(rng, body) + version
        try:
            client.restore("copy", 0, raw + crc64(raw).to_bytes(8, "little"), replace=True)
        except redis.exceptions.ResponseError:
            refused += 1
            continue
        accepted += 1
        client.execute_command(re.sub("SET|STORE", "GET", make[0]), "copy")
        client.dump("copy")
        client.memory_usage("copy")
        client.copy("copy", "again", replace=True)
        client.execute_command("DEBUG", "DIGEST-VALUE", "copy")
    assert refused > 100
    assert refused + accepted == 800
    client.flushall()
    wait_until(
        lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5, "freed, maybe in the background"
    )
    assert server.alive
