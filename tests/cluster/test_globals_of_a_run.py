"""run(): each shard has its own globals, a copy of what they were when the script's top level had ended."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.servers import RedisClusterServers, RedisServer

pytestmark = pytest.mark.usefixtures("cluster_worker")


def execute(node: RedisServer, source: str) -> Any:
    with node.client(decode_responses=True) as client:
        return client.execute_command("RG.PYEXECUTE", source)


COUNTER = """
seen = ['top']
class Counter:
    total = 0

def count(record):
    Counter.total += 1
    seen.append(record)
    return len(seen), Counter.total

def three():
    return iter(range(3))

GB('PythonReader').map(count).collect().sort().run(three)
"""


def test_no_shard_sees_what_another_has_written(cluster: RedisClusterServers) -> None:
    results, errors = execute(cluster.masters[0], COUNTER)
    assert errors == []
    assert results == ["(2, 1)", "(2, 1)", "(3, 2)", "(3, 2)", "(4, 3)", "(4, 3)"]


def test_they_begin_with_what_the_top_level_made(cluster: RedisClusterServers) -> None:
    source = """
greeting = execute('ECHO', 'hello')
def greet(name):
    return greeting + ' ' + name
GB('ShardsIDReader').map(lambda _: greet(hashtag())).sort().run()
"""
    results, errors = execute(cluster.masters[1], source)
    assert errors == []
    assert [result.partition(" ")[0] for result in results] == ["hello", "hello"]
    assert len(set(results)) == 2


def test_steps_after_a_collect_have_those_of_the_first_shard(cluster: RedisClusterServers) -> None:
    source = """
state = {'n': 0}
def bump(x):
    state['n'] += 1
    return x
GB('ShardsIDReader').foreach(bump).collect().map(lambda _: state['n']).run()
"""
    assert execute(cluster.masters[0], source) == [["1", "1"], []]


def test_the_key_of_a_record_is_made_where_the_record_is(cluster: RedisClusterServers) -> None:
    source = """
GB('ShardsIDReader').map(lambda _: hashtag()).repartition(lambda r: 'k{%s}' % hashtag()).map(
    lambda made: made == hashtag()).run()
"""
    assert execute(cluster.masters[0], source) == [["True", "True"], []]


def test_what_cannot_be_copied_is_named(cluster: RedisClusterServers) -> None:
    source = "import threading\nlock = threading.Lock()\nGB('ShardsIDReader').map(lambda _: lock).run()"
    with pytest.raises(ResponseError, match=r"Error occured when serialized a python callback.*lock"):
        execute(cluster.masters[0], source)


def test_one_key_of_the_cluster(cluster: RedisClusterServers) -> None:
    with cluster.client() as client:
        client.set("the key", "its value")
    for node in cluster.masters:
        results, errors = execute(node, "GB().map(lambda r: r['value']).run('the key', noScan=True)")
        assert (sorted(results), errors) == (["None", "its value"], [])  # every shard gives a record
        assert execute(node, "GB('KeysOnlyReader').run('the key', noScan=True)") == [["the key"], []]
        assert execute(node, "GB('KeysOnlyReader').run('no such key', noScan=True)") == [[], []]
        types = "GB().map(lambda r: (r['key'], r['type'])).distinct().run('no such key', noScan=True)"
        assert execute(node, types) == [["('no such key', 'empty')"], []]
        without = "GB().run('the key', noScan=True, readValue=False)"
        assert execute(node, without) == [["{'key': 'the key', 'event': None}"] * 2, []]


def test_records_without_values_have_no_more_than_key_and_event(cluster: RedisClusterServers) -> None:
    with cluster.client() as client:
        client.set("plain", "x")
    assert execute(cluster.masters[0], "GB().run('plain', readValue=False)") == [
        ["{'key': 'plain', 'event': None}"],
        [],
    ]


def test_names_of_keys_by_a_pattern_of_each_shard(cluster: RedisClusterServers) -> None:
    execute(
        cluster.masters[0],
        "GB('ShardsIDReader').foreach(lambda _: execute('SET', 'p{%s}' % hashtag(), 1)).run()",
    )
    source = """
def mine():
    return 'p{%s}' % hashtag(), True
GB('KeysOnlyReader').count().run(patternGenerator=mine)
"""
    assert execute(cluster.masters[0], source) == [["2"], []]
    assert execute(cluster.masters[0], "GB('KeysOnlyReader').count().run('p{*', count=1)") == [["2"], []]
