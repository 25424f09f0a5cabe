"""RG.PYEXECUTE with run(): over all shards of a cluster, results, errors, what clients send."""

from __future__ import annotations

from typing import Any

import gearsclient
import pytest
from redis.exceptions import ResponseError

from keymiss import keys
from tests.servers import RedisClusterServers, RedisServer, wait_until

pytestmark = pytest.mark.usefixtures("cluster_worker")


@pytest.fixture(scope="module")
def data(cluster: RedisClusterServers) -> RedisClusterServers:
    """100 strings, a hash, a list, a set, a sorted set, and bytes that are not UTF-8."""
    with cluster.client() as client:
        for number in range(100):
            client.set(f"n:{number}", number)
        client.hset("h:1", mapping={"a": "1", "b": "2"})
        client.rpush("l:1", "x", "y")
        client.sadd("s:1", "q", "p")
        client.zadd("z:1", {"m": 1.5})
        client.xadd("t:1", {"f": "v"})
        client.set("b:1", b"\xff\x00")
    return cluster


def execute(node: RedisServer, source: str, *args: str) -> Any:
    with node.client() as client:
        return client.execute_command("RG.PYEXECUTE", source, *args)


def test_one_record_for_each_shard(data: RedisClusterServers) -> None:
    results, errors = execute(data.masters[0], "GB('ShardsIDReader').run()")
    with data.client() as client:
        assert sorted(r.decode() for r in results) == sorted(
            node["node_id"] for node in client.cluster_nodes().values() if "master" in node["flags"]
        )
    assert errors == []


def test_each_shard_has_its_tag(data: RedisClusterServers) -> None:
    results, _ = execute(data.masters[1], "GB('ShardsIDReader').map(lambda _: hashtag()).sort().run()")
    assert results == sorted(keys.tag_for_slot(slot).encode() for slot in (0, 8192))


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize(
    ("source", "results"),
    [
        ("GB().count().run('n:*')", [b"100"]),
        ("GB('KeysOnlyReader').filter(lambda k: k.startswith('n:')).count().run()", [b"100"]),
        (
            "GB().map(lambda r: int(r['value'])).aggregate(0, int.__add__, int.__add__).run('n:*')",
            [b"4950"],
        ),
        ("GB().map(lambda r: r['value']).run('h:1', noScan=False)", [b"{'a': '1', 'b': '2'}"]),
        ("GB().map(lambda r: (r['type'], r['value'])).run('l:1')", [b"('list', ['x', 'y'])"]),
        ("GB().map(lambda r: (r['type'], r['value'])).run('s:1')", [b"('set', ['p', 'q'])"]),
        ("GB().map(lambda r: (r['type'], r['value'])).run('z:1')", [b"('zset', [('m', 1.5)])"]),
        ("GB().map(lambda r: (r['type'], r['value'])).run('t:1')", [b"('stream', None)"]),
        ("GB().map(lambda r: r['value']).run('b:1', False)", [b"\xff\x00"]),
        ("GB().map(lambda r: r['value']).run('b:1', convertToStr=False)", [b"\xff\x00"]),
        ("GB().map(lambda r: 7).run('b:1', convertToStr=False)", [7]),
        ("GB().map(lambda r: execute('GET', r['key'])).run('n:42')", [b"42"]),
        ("GB().run('no such key')", []),
    ],
)
def test_runs(data: RedisClusterServers, node: int, source: str, results: list[object]) -> None:
    assert execute(data.masters[node], source) == [results, []]


def test_records_move_to_the_shard_of_their_key(data: RedisClusterServers) -> None:
    source = (
        "GB('ShardsIDReader').flatmap(lambda _: ['m:%d' % i for i in range(10)]).repartition(lambda k: k)"
    )
    assert execute(data.masters[0], source + ".foreach(lambda k: execute('INCR', k)).count().run()") == [
        [b"20"],
        [],
    ]
    with data.client() as client:
        assert [client.get(f"m:{number}") for number in range(10)] == [b"2"] * 10


def test_a_run_on_one_shard(data: RedisClusterServers) -> None:
    results, _ = execute(
        data.masters[1], "GB('ShardsIDReader').map(lambda _: hashtag()).run(mode='async_local')"
    )
    assert results == [keys.tag_for_slot(8192).encode()]


def test_records_that_fail_are_listed(data: RedisClusterServers) -> None:
    results, errors = execute(
        data.masters[0], "GB().map(lambda r: 1 / (int(r['value']) % 50)).count().run('n:*')"
    )
    assert results == [b"98"]
    assert errors == [b"ZeroDivisionError: division by zero"] * 2


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("this is no python", "FAILED SyntaxError"),
        ("1 / 0", "FAILED ZeroDivisionError: division by zero"),
        ("GB().run()\nGB().run()", "more then 1 executions"),
        ("GB('NoReader').run()", "reader does not exists: 'NoReader'"),
        ("import nosuchmodule", "FAILED ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("execute('NOSUCHCOMMAND')", "FAILED ResponseError: unknown command"),
        ("execute('GET')", "wrong number of arguments"),
        ("override_reply('x')", "no client waits"),
        ("with atomic():\n  pass", "use a Lua script"),
    ],
)
def test_scripts_that_cannot_run(data: RedisClusterServers, source: str, text: str) -> None:
    with pytest.raises(ResponseError, match=text):
        execute(data.masters[0], source)


def test_requirements_are_checked_not_installed(data: RedisClusterServers) -> None:
    assert execute(data.masters[0], "import numpy", "REQUIREMENTS", "numpy", "redis>=3") == b"OK"
    with pytest.raises(
        ResponseError, match="no-such-package-of-ours==1' is not installed in the worker's environment"
    ):
        execute(data.masters[0], "", "REQUIREMENTS", "no-such-package-of-ours==1")


def test_a_script_registers_on_every_shard_and_each_has_its_own_globals(data: RedisClusterServers) -> None:
    source = """
mine = hashtag()
seen = []
def registered():
    seen.append(hashtag())
def answer(record):
    override_reply([mine, hashtag(), str(seen)])
GB().map(answer).register(
    'where*', eventTypes=['keymiss'], commands=['get'], mode='async_local', onRegistered=registered)
GB('ShardsIDReader').count().run()
"""
    assert execute(data.masters[0], source) == [[b"2"], []]
    for slot in (0, 8192):
        tag = keys.tag_for_slot(slot)
        with data.client() as client:
            expected = [tag.encode(), tag.encode(), str([tag]).encode()]
            assert client.execute_command("GET", f"where{{{tag}}}") == expected
    for node in data.nodes:
        with node.client() as client:
            assert any(row[6].startswith(b"where") for row in client.execute_command("KM.REGISTRATIONS"))


def test_unblocking_of_a_run_answers_with_an_id(data: RedisClusterServers) -> None:
    with data.masters[0].client(decode_responses=True) as client:
        script = """
def wait(_):
    execute('BLPOP', 'go{%s}' % hashtag(), 20)
    execute('SET', 'went{%s}' % hashtag(), 1)
GB('ShardsIDReader').foreach(wait).run()
"""
        execution = client.execute_command("RG.PYEXECUTE", script, "UNBLOCKING")
        assert client.execute_command("RG.GETEXECUTION", execution)[0][3][:2] == ["status", "running"]
    tags = [keys.tag_for_slot(slot) for slot in (0, 8192)]
    with data.client() as client:
        assert [client.exists(f"went{{{tag}}}") for tag in tags] == [0, 0]
        for tag in tags:
            client.rpush(f"go{{{tag}}}", "x")
        for tag in tags:
            wait_until(lambda tag=tag: client.exists(f"went{{{tag}}}"), 20, "the run goes on")  # type: ignore[misc]
    with data.masters[0].client(decode_responses=True) as client:
        results, errors = client.execute_command("RG.GETRESULTSBLOCKING", execution)
        assert (len(results), errors) == (2, [])


def test_unblocking_of_a_script_that_only_registers_is_ok(data: RedisClusterServers) -> None:
    assert execute(data.masters[0], "GB().register('unblocking:')", "UNBLOCKING") == b"OK"
    with data.masters[1].client() as client:  # registered when the reply comes, on every shard
        assert any(row[6] == b"unblocking:" for row in client.execute_command("KM.REGISTRATIONS"))
    with pytest.raises(ResponseError, match="ZeroDivisionError"):
        execute(data.masters[0], "1 / 0", "UNBLOCKING")


def test_unblocking_cannot_wait_in_a_transaction(data: RedisClusterServers) -> None:
    with data.masters[0].client() as client:
        pipe = client.pipeline(transaction=True)
        pipe.execute_command("RG.PYEXECUTE", "GB().register('in multi:')", "UNBLOCKING")
        with pytest.raises(ResponseError, match="cannot wait inside MULTI"):
            pipe.execute()


def test_gearsclient_counts_keys_per_shard(data: RedisClusterServers) -> None:
    with data.masters[0].client() as client:
        builder = gearsclient.GearsRemoteBuilder("ShardsIDReader", r=client)
        per_shard, errors = builder.map(
            lambda _: (gearsclient.hashtag(), gearsclient.execute("DBSIZE"))
        ).run()
        assert errors == []
        sizes = dict(per_shard)
    for node, slot in zip(data.masters, (0, 8192), strict=True):
        with node.client() as client:
            assert sizes[keys.tag_for_slot(slot)] == client.dbsize()


def test_gearsclient_steps(data: RedisClusterServers) -> None:
    with data.masters[1].client() as client:

        def build(reader: str = "KeysReader") -> gearsclient.GearsRemoteBuilder:
            return gearsclient.GearsRemoteBuilder(reader, r=client)

        assert build().count().run("n:*") == ([100], [])
        assert build().map(lambda r: int(r["value"])).sort().limit(3).run("n:*") == (
            [0, 1, 2],
            [],
        )
        assert build().map(lambda r: int(r["value"])).avg().run("n:*") == ([49.5], [])
        groups, _ = build().countby(lambda r: r["type"]).run("[hlsztb]:1")
        assert {g["key"]: g["value"] for g in groups} == {
            "string": 1,
            "hash": 1,
            "list": 1,
            "set": 1,
            "zset": 1,
            "stream": 1,
        }
        _, errors = build("ShardsIDReader").map(lambda _: 1 / 0).run()
        assert errors == [b"ZeroDivisionError: division by zero"] * 2
