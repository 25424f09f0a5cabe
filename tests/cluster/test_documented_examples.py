"""What RedisGears' documentation shows as examples, in our own words: each runs as a program would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, wait_until


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=2, replicas=0) as started, WorkerProcess(started):
        yield started


@pytest.fixture
def client(servers: RedisClusterServers) -> Iterator[redis.Redis]:
    """One master; what it runs is run on both."""
    with servers.masters[0].client(decode_responses=True) as made:
        yield made


def upload(client: redis.Redis, script: str) -> None:
    assert client.execute_command("RG.PYEXECUTE", script) == "OK"


def test_words_are_counted(client: redis.Redis, servers: RedisClusterServers) -> None:
    with servers.client() as cluster:
        for number, text in enumerate(("a rose is a rose", "is it", "a b")):
            cluster.set(f"text:{number}", text)
    results, errors = client.execute_command(
        "RG.PYEXECUTE",
        "GB().map(lambda r: r['value']).flatmap(str.split).countby()"
        ".map(lambda r: (r['key'], r['value'])).run('text:*')",
    )
    assert errors == []
    assert sorted(results) == sorted(["('a', 3)", "('rose', 2)", "('is', 2)", "('it', 1)", "('b', 1)"])


def test_pi_is_estimated_by_darts(client: redis.Redis) -> None:
    """Each shard throws its part of them, by what RG.INFOCLUSTER says."""
    script = """
def darts():
    known = execute('RG.INFOCLUSTER')
    yield 20000 if isinstance(known, str) else 20000 // len(known[4])
def hits(count):
    import random
    dice = random.Random(1)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(count))
total = GB('PythonReader').map(hits).aggregate(0, lambda a, n: a + n, lambda a, n: a + n)
total.map(lambda n: 4 * n / 20000).run(darts)
"""
    (estimate,), errors = client.execute_command("RG.PYEXECUTE", script)
    assert errors == []
    assert 3.0 < float(estimate) < 3.3


def test_a_stream_is_written_to_hashes(client: redis.Redis, servers: RedisClusterServers) -> None:
    upload(
        client,
        "def write(r):\n"
        "    fields = [word for pair in r['value'].items() for word in pair]\n"
        "    execute('HSET', 'entry:{%s}:%s' % (hashtag(), r['id']), *fields)\n"
        "GB('StreamReader').foreach(write).register('log{1bz}', mode='async_local')",
    )
    with servers.client(decode_responses=True) as cluster:
        id_ = cluster.xadd("log{1bz}", {"who": "me", "what": "this"})
        wait_until(lambda: cluster.xlen("log{1bz}") == 0, 20, "worked off")
        assert cluster.hgetall(f"entry:{{1bz}}:{id_}") == {"who": "me", "what": "this"}


def test_a_missed_key_is_read_from_elsewhere(client: redis.Redis, servers: RedisClusterServers) -> None:
    with RedisServer() as behind, servers.client(decode_responses=True) as cluster:
        with behind.client() as there:
            there.set("cached:1", "from behind")
        upload(
            client,
            "def fetch(r):\n"
            "    import redis\n"
            f"    value = redis.Redis(port={behind.port}).get(r['key'])\n"
            "    if value is not None:\n"
            "        execute('SET', r['key'], value)\n"
            "    override_reply(value)\n"
            "GB().foreach(fetch)"
            ".register('cached:', eventTypes=['keymiss'], commands=['get'], mode='async_local')",
        )
        assert cluster.get("cached:1") == "from behind"
        assert cluster.get("cached:2") is None
        assert cluster.exists("cached:1")
    assert client.execute_command("RG.PYEXECUTE", "GB().count().run('cached:*')") == [["1"], []]


def test_what_is_written_expires(client: redis.Redis, servers: RedisClusterServers) -> None:
    upload(
        client,
        "GB().foreach(lambda r: execute('EXPIRE', r['key'], 3600))"
        ".register('brief:', commands=['set', 'hset'], readValue=False, mode='sync')",
    )
    with servers.client() as cluster:
        for n in range(4):
            cluster.set(f"brief:{n}", n)
            assert 3590 <= cluster.ttl(f"brief:{n}") <= 3600  # the client of the command has waited for it


def test_no_notification_is_lost(client: redis.Redis, servers: RedisClusterServers) -> None:
    upload(
        client,
        "def note(r):\n"
        "    execute('XADD', 'notes:{%s}' % hashtag(), '*', 'key', r['key'], 'event', r['event'])\n"
        "GB().foreach(note).register('person:', eventTypes=['hset'], readValue=False, mode='async_local')\n"
        "GB('StreamReader').foreach(lambda r: execute('RPUSH', 'told:{%s}' % hashtag(), r['value']['key']))"
        ".register('notes:', batch=10, mode='async_local')",
    )
    with servers.client(decode_responses=True) as cluster:
        for n in range(20):
            cluster.hset(f"person:{n}", "name", str(n))

        def told() -> list[str]:
            (tags, _) = client.execute_command(
                "RG.PYEXECUTE", "GB('ShardsIDReader').map(lambda _: hashtag()).run()"
            )
            return [key for tag in tags for key in cluster.lrange(f"told:{{{tag}}}", 0, -1)]

        wait_until(
            lambda: sorted(told()) == sorted(f"person:{n}" for n in range(20)), 30, "each was told once"
        )
