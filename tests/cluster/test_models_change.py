"""Whatever changes a model is noticed: by its version, and by WATCH; a copy is a model of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.patience import patient
from tests.servers import RedisServer, keymiss_info, wait_until

SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def store(client: redis.Redis, key: str = "m", blob: bytes = b"abc") -> int:
    """Stores a model; returns its version."""
    client.execute_command(
        "AI.MODELSET", key, "TORCH", "CPU", "TAG", "v1", "INPUTS", "a", "BLOB", blob, b"de"
    )
    return version(client, key) or 0


def version(client: redis.Redis, key: str = "m") -> int | None:
    """By it a worker knows the model that it has loaded; None where no model is."""
    if client.type(key) != b"km-aimodl":
        return None
    return client.execute_command("KM.MODELINFO", key)[1]


def expire(client: redis.Redis) -> None:
    client.pexpire("m", 1)
    time.sleep(0.01)
    wait_until(lambda: client.exists("m") == 0, 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.delete("m"),
        lambda c: c.unlink("m"),
        lambda c: c.set("m", "x"),
        lambda c: c.rename("m", "n"),
        lambda c: c.flushall(),
        lambda c: c.flushdb(asynchronous=True),
        expire,
        lambda c: c.execute_command("AI.MODELDEL", "m"),
        store,
    ],
    ids=[
        "del",
        "unlink",
        "set",
        "rename",
        "flushall",
        "flushdb-async",
        "expire",
        "modeldel",
        "modelstore",
    ],
)
def test_the_version_is_another(shard: RedisServer, change: Callable[[redis.Redis], object]) -> None:
    client = shard.client()
    client.flushall()
    before = store(client)
    change(client)
    assert version(client) != before


def test_a_digest_told_twice_changes_nothing_the_second_time(shard: RedisServer) -> None:
    client = shard.client()
    client.flushall()
    stored = store(client)

    def watched() -> None:
        with client.pipeline() as pipe:
            pipe.watch("m")
            assert shard.client().execute_command("KM.MODELDIGEST", "m", stored, SHA256) == 1
            pipe.multi()
            pipe.ping()
            pipe.execute()

    with pytest.raises(redis.exceptions.WatchError):
        watched()
    watched()


def test_a_copy_is_the_same_model_under_another_version(shard: RedisServer) -> None:
    client = shard.client()
    client.flushall()
    original = store(client)
    client.execute_command("KM.MODELDIGEST", "m", original, SHA256)
    assert client.copy("m", "twin")
    first, second = client.execute_command("DEBUG", "DIGEST-VALUE", "m", "twin")
    assert first == second
    meta = client.execute_command("AI.MODELGET", "m")
    assert version(client, "m") == original
    client.delete("m")
    assert client.execute_command("AI.MODELGET", "twin") == meta
    info = client.execute_command("KM.MODELINFO", "twin")
    assert info[1] != original
    assert info[11] == SHA256.encode()
    client.delete("twin")
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5)


def test_the_digest_of_a_value_covers_its_settings(shard: RedisServer) -> None:
    client = shard.client()
    client.flushall()
    seen = set()
    for options in (), ("TAG", "t"), ("BATCHSIZE", 2), ("INPUTS", "a"), ("OUTPUTS", "a"):
        client.execute_command("AI.MODELSET", "m", "TORCH", "CPU", *options, "BLOB", b"x")
        seen.add(str(client.execute_command("DEBUG", "DIGEST-VALUE", "m")))
    assert len(seen) == 5


def test_stored_and_flushed_in_one_transaction(shard: RedisServer) -> None:
    """The lazy-free thread must not share the arguments' reference counts with the main thread."""
    client = shard.client()
    for _ in range(30):
        with client.pipeline(transaction=True) as pipe:
            pipe.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", *[b"z" * 100] * 1000)
            pipe.execute_command("FLUSHALL", "ASYNC")
            pipe.execute()
        client.eval(
            "redis.call('AI.MODELSTORE', 'm', 'TORCH', 'CPU', 'BLOB', ARGV[1])\n"
            "redis.call('FLUSHALL', 'ASYNC')",
            0,
            b"z" * 5000,
        )
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5)
    assert shard.alive


def test_figures_do_not_overflow(shard: RedisServer) -> None:
    client = shard.client()
    store(client)
    for _ in range(3):
        client.execute_command("KM.MODELRAN", "m", 2**40, 1, 2**40, 0)
    assert client.execute_command("AI.INFO", "m")[11::2] == [3 * 2**40, 3, 3 * 2**40, 0]
    with pytest.raises(redis.exceptions.ResponseError, match="whole numbers"):
        client.execute_command("KM.MODELRAN", "m", 2**63, 1, 1, 1)


def test_events(shard: RedisServer) -> None:
    client = shard.client()
    client.flushall()
    client.config_set("notify-keyspace-events", "Kd")  # d: of modules
    watcher = shard.client().pubsub()
    watcher.psubscribe("__keyspace@0__:*")
    assert watcher.get_message(timeout=patient(5))["type"] == "psubscribe"
    client.execute_command("AI.TENSORSET", "t", "FLOAT", 1)
    store(client)
    client.execute_command("AI.MODELDEL", "m")
    events = [watcher.get_message(timeout=patient(5)) for _ in range(3)]
    assert [(e["channel"].split(b":")[1], e["data"]) for e in events] == [
        (b"t", b"tensorset"),
        (b"m", b"modelstore"),
        (b"m", b"modeldel"),
    ]
