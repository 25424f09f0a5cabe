"""What was computed is kept only while model and sentence are those that it was computed of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from keymiss.pipeline.model_version import ModelVersion, keep_command, model_version
from tests.servers import RedisServer, wait_until

MODEL, SENTENCES = "bert-qa{x}", "sentence:A:{x}"
TEXT = "Bats carry viruses."
KEPT = {"bertqa{x}_A:{x}:0_Who": "Bats", "bertspan{x}_A:{x}:0_Who": b"{}"}


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def client(shard: RedisServer) -> Iterator[redis.Redis]:
    """With a model and a sentence."""
    with shard.client(decode_responses=True) as made:
        made.flushall()
        made.hset(SENTENCES, "0", TEXT)
        store(made)
        yield made


def store(client: redis.Redis) -> ModelVersion:
    client.execute_command("AI.MODELSTORE", MODEL, "TORCH", "CPU", "BLOB", b"abc")
    found = model_version(MODEL, client.execute_command("KM.MODELINFO", MODEL))
    assert found is not None
    return found


def keep(client: redis.Redis, model: ModelVersion, text: str = TEXT, ttl_s: str = "0") -> int:
    kept: int = client.execute_command(*keep_command(model, KEPT, ttl_s, (SENTENCES, "0", text)))
    return kept


def test_kept_and_removed_with_what_it_is_of(client: redis.Redis) -> None:
    model = store(client)
    assert keep(client, model) == 1
    assert [client.get(key) for key in KEPT] == ["Bats", "{}"]
    assert [client.ttl(key) for key in KEPT] == [-1, -1]
    client.hset(SENTENCES, "0", "Mice do.")
    wait_until(lambda: client.exists(*KEPT) == 0, 5)
    client.hset(SENTENCES, "0", TEXT)
    assert keep(client, model) == 1
    store(client)
    wait_until(lambda: client.exists(*KEPT) == 0, 5)


def test_for_a_while(client: redis.Redis) -> None:
    assert keep(client, store(client), ttl_s="100") == 1
    assert all(90 < client.ttl(key) <= 100 for key in KEPT)


def test_the_very_next_version_is_another_one(client: redis.Redis) -> None:
    """Two versions that are one and the same number to Lua."""
    before, after = store(client), store(client)
    while float(before.version) != float(after.version):
        before, after = after, store(client)  # 1 in 16 are not
    assert before.version != after.version
    assert keep(client, before) == 0
    assert client.exists(*KEPT) == 0
    assert keep(client, after) == 1


def test_another_sentence_or_none_and_no_model(client: redis.Redis) -> None:
    model = store(client)
    assert keep(client, model, "Mice do.") == 0
    client.hdel(SENTENCES, "0")
    assert keep(client, model) == 0
    client.hset(SENTENCES, "0", TEXT)
    client.delete(MODEL)
    assert keep(client, model) == 0
    assert client.exists(*KEPT) == 0


def test_what_the_shard_refuses_is_an_error(client: redis.Redis) -> None:
    """And not the same as another version, or nobody would learn of it."""
    model = store(client)
    client.set(MODEL, "no model")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        keep(client, model)


def test_without_a_sentence(client: redis.Redis) -> None:
    model, key = store(client), "bertvec{x}_Who"
    assert client.execute_command(*keep_command(model, {key: b"\x01\x02"}, "60")) == 1
    assert client.get(key) == "\x01\x02"
    assert 0 < client.ttl(key) <= 60
    store(client)
    wait_until(lambda: not client.exists(key), 5)
