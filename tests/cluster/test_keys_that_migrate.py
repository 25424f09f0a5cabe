"""MIGRATE of a slot by hand: no event for functions, answers and large models stay behind, and who asks
meanwhile is told to do so again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from keymiss import keys
from tests.cluster.redis_cli_cluster import node_id
from tests.hand_worker import HandWorker, register_events, register_miss
from tests.servers import RedisClusterServers, RedisServer, wait_until

TAG = keys.tag_for_slot(7)
LARGE, SMALL = 2 << 20, 1000


@pytest.fixture
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=2) as running:
        yield running


@pytest.fixture
def source(servers: RedisClusterServers) -> Iterator[redis.Redis]:
    with servers.masters[0].client() as client:
        yield client


@pytest.fixture
def target(servers: RedisClusterServers) -> Iterator[redis.Redis]:
    with servers.masters[1].client() as client:
        yield client


def begin(servers: RedisClusterServers) -> None:
    one, other = servers.masters
    with one.client() as source, other.client() as target:
        target.execute_command("CLUSTER", "SETSLOT", 7, "IMPORTING", node_id(one))
        source.execute_command("CLUSTER", "SETSLOT", 7, "MIGRATING", node_id(other))


def migrate(source: redis.Redis, to: RedisServer, *names: str) -> Any:
    return source.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 20000, "KEYS", *names)


def end(servers: RedisClusterServers) -> None:
    for server in servers.masters[::-1]:
        with server.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", 7, "NODE", node_id(servers.masters[1]))


def another_tag_of(slot: int) -> str:
    known = keys.tag_for_slot(slot)
    return next(tag for tag in map(str, range(10**6)) if tag != known and keys.slot_of(tag) == slot)


def stats(client: redis.Redis) -> dict[bytes, int]:
    flat = client.execute_command("KM.STATS")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def models(client: redis.Redis) -> dict[bytes, int]:
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in client.execute_command("KM.MODELS")]
    return {row[b"key"]: row[b"has_key"] for row in rows}


def test_a_key_that_moves_is_no_event(
    servers: RedisClusterServers, source: redis.Redis, target: redis.Redis
) -> None:
    key = f"paragraphs:x{{{TAG}}}"
    for client in (source, target):
        register_events(client, "paragraphs:", "set,del,restore")
    source.set(key, "text")
    assert stats(source)[b"events_queued"] == 1
    begin(servers)
    assert migrate(source, servers.masters[1], key) == b"OK"
    end(servers)
    assert target.get(key) == b"text"
    assert (stats(source)[b"events_queued"], stats(target)[b"events_queued"]) == (1, 0)
    target.restore(f"{key}2", 0, target.dump(key))
    target.delete(key)
    assert stats(target)[b"events_queued"] == 2, "those of clients are"


def test_an_answer_does_not_move_and_what_nobody_makes_again_does(
    servers: RedisClusterServers, source: redis.Redis, target: redis.Redis
) -> None:
    sentence, answer, other = (f"{name}{{{TAG}}}" for name in ("sentence:x:", "bertqa", "other"))
    register_miss(source)
    for key in (sentence, answer, other):
        source.set(key, "x")
    assert source.execute_command("KM.DERIVE", 1, sentence, answer, other) == 2
    begin(servers)
    assert migrate(source, servers.masters[1], answer) == b"NOKEY"
    wait_until(lambda: source.execute_command("CLUSTER", "COUNTKEYSINSLOT", 7) == 2, 5)
    assert migrate(source, servers.masters[1], answer, sentence, other) == b"OK"
    assert source.execute_command("CLUSTER", "COUNTKEYSINSLOT", 7) == 0
    end(servers)
    assert [target.exists(key) for key in (sentence, answer, other)] == [1, 0, 1]


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_a_model_stays_whether_its_key_moves_or_not(
    servers: RedisClusterServers, source: redis.Redis, target: redis.Redis, size: int
) -> None:
    key, home = f"m{{{TAG}}}", f"m{{{keys.tag_for_slot(8)}}}"
    source.execute_command("AI.MODELSTORE", key, "DUMMY", "CPU", "BLOB", "x" * size)
    source.execute_command("KM.MODELDIGEST", key, "*", "ab" * 32)
    version = source.execute_command("KM.MODELINFO", "m")[1]
    source.set(f"made{{{keys.tag_for_slot(9)}}}", "of it")
    assert source.execute_command("KM.DERIVE", "MODELS", 1, "m", 0, f"made{{{keys.tag_for_slot(9)}}}") == 1
    worker = HandWorker(servers.masters[0])
    begin(servers)
    assert migrate(source, servers.masters[1], key) == (b"NOKEY" if size == LARGE else b"OK")
    wait_until(lambda: source.execute_command("CLUSTER", "COUNTKEYSINSLOT", 7) == 0, 5)
    end(servers)
    worker.die()
    assert models(source) == {key.encode(): 0}
    assert models(target) == ({} if size == LARGE else {key.encode(): 1})
    assert source.execute_command("KM.MODELINFO", "m")[1] == version
    assert source.execute_command("KM.MODELHOME", home) == 1
    assert source.execute_command("KM.MODELINFO", home)[1] == version
    assert models(source) == {home.encode(): 1}
    assert stats(source)[b"derived_stale"] == 0
    source.execute_command("AI.MODELDEL", home)
    wait_until(lambda: not source.exists(f"made{{{keys.tag_for_slot(9)}}}"), 5)


def test_a_model_at_another_key_of_the_shard_comes_home(
    servers: RedisClusterServers, source: redis.Redis
) -> None:
    """As when the shard got slots below those that it had. From version 8 on Valkey has a table of keys for
    each slot, and a command that declares its key sees that one alone."""
    old, home = f"m{{{TAG}}}", f"m{{{keys.tag_for_slot(8)}}}"
    for _ in range(2):  # the second time with a twin at home
        source.execute_command("AI.MODELSTORE", old, "DUMMY", "CPU", "BLOB", "x")
        source.execute_command("KM.MODELDIGEST", old, "*", "ab" * 32)
        assert source.execute_command("KM.MODELHOME", home) == 1
        assert models(source) == {home.encode(): 1}
        assert (source.exists(old), source.exists(home)) == (0, 1)
        assert source.execute_command("AI.MODELGET", home, "BLOB") == b"x"
    elsewhere = f"m{{{keys.tag_for_slot(16000)}}}"
    with pytest.raises(redis.ResponseError, match="not served here"):
        source.execute_command("KM.MODELHOME", elsewhere)
    source.execute_command("AI.MODELDEL", home)
    assert models(source) == {}


def test_models_of_one_name_that_lose_their_keys_are_all_kept(
    servers: RedisClusterServers, source: redis.Redis, target: redis.Redis
) -> None:
    """Each may be somebody's own. What was found in it, and what it is, goes along."""
    beside = f"m{{{another_tag_of(7)}}}"
    mine = {f"m{{{TAG}}}": b"x", beside: b"y"}
    for key, byte in mine.items():
        source.execute_command("AI.MODELSTORE", key, "DUMMY", "CPU", "TAG", "t", "BLOB", byte * LARGE)
        source.execute_command("KM.MODELNAMES", key, "*", 1, "in", 2, "one", "two")
    worker = HandWorker(servers.masters[0])
    begin(servers)
    assert migrate(source, servers.masters[1], *mine) == b"NOKEY"
    wait_until(lambda: source.execute_command("CLUSTER", "COUNTKEYSINSLOT", 7) == 0, 5)
    end(servers)
    assert models(source) == dict.fromkeys(map(str.encode, mine), 0)
    for key, byte in mine.items():
        give = ("DUMMY", "CPU", "TAG", "t", "INPUTS", 1, "in", "OUTPUTS", 2, "one", "two", "BLOB")
        target.execute_command("KM.MODELGIVE", "-", key, *give, byte * LARGE)
    looks = HandWorker(servers.masters[1], attach=False)
    looks.client.execute_command("KM.PULL", "looks", 1, 0, "LOOKS")
    for key, byte in mine.items():
        assert target.execute_command("KM.MODELHOME", key) == 1
        assert source.execute_command("KM.MODELDROP", key) == 1
        about = target.execute_command("AI.MODELGET", key, "META")  # a worker that looks is not asked
        assert (about[11], about[13]) == ([b"in"], [b"one", b"two"])
        assert target.execute_command("AI.MODELGET", key, "BLOB") == byte * LARGE
    assert (models(source), models(target)) == ({}, dict.fromkeys(map(str.encode, mine), 1))
    worker.die()
    looks.die()


def test_runs_are_counted_for_the_script_at_the_key_or_the_shards_model(source: redis.Redis) -> None:
    key, script = f"m{{{TAG}}}", f"s{{{TAG}}}"
    source.execute_command("AI.MODELSTORE", key, "DUMMY", "CPU", "BLOB", "x")
    source.execute_command("AI.SCRIPTSET", script, "CPU", "SOURCE", "def f(x):\n    return x\n")
    for what in ("m", f"m{{{keys.tag_for_slot(8)}}}", script):
        source.execute_command("KM.MODELRAN", what, 1, 2, 3, 0)
    assert source.execute_command("AI.INFO", key)[11::2] == [6, 4, 2, 0]
    assert source.execute_command("AI.INFO", script)[11::2] == [3, -1, 1, 0]
    with pytest.raises(redis.ResponseError, match="cannot find run info for key"):
        source.execute_command("KM.MODELRAN", "s", 1, 1, 1, 0)


def test_a_script_moves_as_any_key(
    servers: RedisClusterServers, source: redis.Redis, target: redis.Redis
) -> None:
    key = f"s{{{TAG}}}"
    points = ("ENTRY_POINTS", 1, "f", "SOURCE", "def f(tensors, keys, args):\n    return tensors\n")
    source.execute_command("AI.SCRIPTSTORE", key, "CPU", *points)
    worker = HandWorker(servers.masters[0])
    begin(servers)
    assert migrate(source, servers.masters[1], key) == b"OK"
    end(servers)
    worker.die()
    assert (models(source), models(target)) == ({}, {})
    assert target.execute_command("AI.SCRIPTGET", key, "META")[5] == [b"f"]


def test_without_a_worker_a_model_moves_as_any_key(
    servers: RedisClusterServers, source: redis.Redis, target: redis.Redis
) -> None:
    key = f"m{{{TAG}}}"
    source.execute_command("AI.MODELSTORE", key, "DUMMY", "CPU", "BLOB", "x" * LARGE)
    begin(servers)
    assert migrate(source, servers.masters[1], key) == b"OK"
    end(servers)
    assert (models(source), models(target)) == ({}, {key.encode(): 1})


def test_a_question_whose_slot_is_on_its_way_says_so(
    servers: RedisClusterServers, source: redis.Redis, target: redis.Redis
) -> None:
    there, missing = f"bertqa{{{TAG}}}there", f"bertqa{{{TAG}}}missing"
    register_miss(source)
    source.set(there, "x")
    begin(servers)
    for client, known in ((source, [1, b"x"]), (target, None)):
        found = client.execute_command("KM.MISSES", 2, there, missing)
        assert isinstance(found[1][1], redis.exceptions.TryAgainError)
        assert found[0] == known if known else isinstance(found[0][1], redis.exceptions.TryAgainError)
