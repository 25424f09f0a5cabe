"""docs/migrating.md is true: what it says is refused is refused in these words; what is the same is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis

from tests.servers import REPO, RedisServer, WorkerProcess

PAGE = (REPO / "docs" / "migrating.md").read_text()
REFUSED = re.findall(r"^\| `([^`]+)`[^|]* \| `((?:FAILED|ERR) [^`]+)`", PAGE, re.M)
UNKNOWN = re.findall(r"`(RG\.[A-Z]+)`", PAGE.partition("Unknown commands")[2].partition("###")[0])


@pytest.fixture(scope="module")
def shard() -> Iterator[redis.Redis]:
    with RedisServer() as server, WorkerProcess(server), server.client(decode_responses=True) as client:
        yield client


def pyexecute(shard: redis.Redis, script: str, *options: str) -> object:
    return shard.execute_command("RG.PYEXECUTE", script, *options)


@pytest.mark.parametrize(("typed", "reply"), REFUSED, ids=[typed for typed, _ in REFUSED])
def test_it_is_refused_in_these_words(shard: redis.Redis, typed: str, reply: str) -> None:
    command = typed.split() if re.match(r"AI\.", typed) else ["RG.PYEXECUTE", typed.replace("; ", "\n")]
    with pytest.raises(redis.ResponseError) as refused:
        shard.execute_command(*command)
    assert str(refused.value).removeprefix("ERR ").startswith(reply.removeprefix("ERR "))


@pytest.mark.parametrize("name", UNKNOWN)
def test_it_is_unknown(shard: redis.Redis, name: str) -> None:
    with pytest.raises(redis.ResponseError, match="unknown command"):
        shard.execute_command(name)


def test_the_page_s_tables_are_read() -> None:
    assert len(REFUSED) >= 13
    assert len(UNKNOWN) >= 3


def records(shard: redis.Redis, steps: str) -> object:
    results, errors = pyexecute(shard, f"GB('PythonReader'){steps}.run(lambda: iter([2, 3, 1, 3]))")  # type: ignore[misc]
    assert errors == []
    return results


def test_orders_and_types_of_group_keys(shard: redis.Redis) -> None:
    assert records(shard, ".sort()") == ["1", "2", "3", "3"]
    assert records(shard, ".sort(reverse=False)") == ["3", "3", "2", "1"]
    assert records(shard, ".limit(1).flatmap(lambda x: [x, 'last'])") == ["last", "2"]
    assert "{'key': '3', 'value': 2}" in records(shard, ".countby(lambda x: x)")  # type: ignore[operator]


@pytest.mark.parametrize("option", ["FORCE_REINSTALL_REQUIREMENTS"])
def test_options_that_are_refused(shard: redis.Redis, option: str) -> None:
    assert f"`{option}`" in PAGE
    with pytest.raises(redis.ResponseError, match=f"{option} is not supported"):
        pyexecute(shard, "GB().register('o:')", option, "x")


def test_what_is_accepted_is_done(shard: redis.Redis) -> None:
    shard.set("h:1", "x")
    assert pyexecute(shard, "GB().register('n:')", "UNBLOCKING") == "OK"
    execution = pyexecute(shard, "GB().count().run('none')", "UNBLOCKING")
    assert shard.execute_command("RG.GETRESULTSBLOCKING", execution) == [[], []]
    assert pyexecute(shard, "GB().run('h:*', readValue=False)") == [["{'key': 'h:1', 'event': None}"], []]
