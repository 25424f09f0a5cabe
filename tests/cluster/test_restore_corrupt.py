"""RESTORE of damaged tensors and models: refused or a valid value, never a crash or a huge allocation."""

from __future__ import annotations

import random

import pytest
import redis

from tests.servers import RedisServer, keymiss_info, wait_until


def crc64(data: bytes, crc: int = 0) -> int:
    """The checksum of a DUMP payload (CRC-64/Jones, reflected)."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


@pytest.mark.parametrize(
    "make",
    [
        ("AI.TENSORSET", "k", "INT64", 2, 2, "VALUES", 1, 2, 3, 4),
        (
            "AI.MODELSET",
            "k",
            "TORCH",
            "CPU",
            "TAG",
            "t",
            "INPUTS",
            "a",
            "OUTPUTS",
            "b",
            "BLOB",
            b"abc",
            b"de",
        ),
    ],
    ids=["tensor", "model"],
)
def test_every_changed_byte(server: RedisServer, make: tuple[object, ...]) -> None:
    client = server.client()
    client.execute_command(*make)
    payload = client.dump("k")
    body, version = payload[:-10], payload[-10:-8]
    assert crc64(payload[:-8]).to_bytes(8, "little") == payload[-8:]
    rng = random.Random(3)
    refused = 0
    for i in range(9, len(body)):  # the first 9 bytes name the type
        for value in {0, 1, 0x80, 0xFF, 0x7F, rng.randrange(256)}:
            damaged = body[:i] + bytes([value]) + body[i + 1 :] + version
            try:
                client.restore("copy", 0, damaged + crc64(damaged).to_bytes(8, "little"), replace=True)
            except redis.exceptions.ResponseError as error:
                assert "Bad data format" in str(error)  # noqa: PT017
                refused += 1
    accepted_cuts = 0
    for length in range(9, len(body)):
        cut = body[:length] + version
        try:
            client.restore("copy", 0, cut + crc64(cut).to_bytes(8, "little"), replace=True)
            accepted_cuts += 1  # the two bytes of the version stood in for the missing end
        except redis.exceptions.ResponseError as error:
            assert "Bad data format" in str(error)  # noqa: PT017
    assert accepted_cuts <= 2
    assert refused > 20
    client.flushall()
    wait_until(
        lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5, "freed, maybe in the background"
    )
    assert server.alive
