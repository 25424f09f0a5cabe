"""What a script gives to the builder is done, or refused in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.servers import RedisServer, WorkerProcess


@pytest.fixture(scope="module")
def shard() -> Iterator[redis.Redis]:
    with RedisServer() as server, WorkerProcess(server), server.client(decode_responses=True) as client:
        yield client


REFUSED = [
    # the builder and what it reads
    ("GB(1).run()", "reader argument must be a string"),
    ("GB('Keys').run()", "reader does not exists"),
    ("GB(desc=1).run()", "desc argument must be a string"),
    ("GB().run(1)", "regex argument must be a string"),
    ("GB().run(noScan=1)", "noScan value is not boolean"),
    ("GB().run(readValue='no')", "readValue value is not boolean"),
    ("GB().run(count=5)", r"run\(\) of KeysReader has no argument 'count'; it has noScan, readValue"),
    ("GB().run(mode=1)", "execution mode argument must be a string"),
    ("GB('ShardsIDReader').run(noScan=True)", "has no argument 'noScan'"),
    ("GB('PythonReader').run('*')", "pyreader argument must be a function"),
    ("GB('PythonReader', '*').run()", "pyreader argument must be a function"),
    # steps
    ("GB().map(1).run()", "map argument must be a function"),
    ("GB().map(str, 2).run()", "wrong number of args to map function"),
    ("GB().map().run()", "wrong number of args to map function"),
    ("GB().filter('x').run()", "filter argument must be a function"),
    ("GB().foreach(None).run()", "foreach argument must be a function"),
    ("GB().flatmap([1]).run()", "flatmap argument must be a function"),
    ("GB().accumulate(1).run()", "accumulate argument must be a function"),
    ("GB().repartition('key').run()", "repartition argument must be a function"),
    ("GB().groupby(1, str).run()", "groupby extractor argument must be a function"),
    ("GB().groupby(str, 1).run()", "groupby reducer argument must be a function"),
    ("GB().localgroupby(str).run()", "wrong number of args to localgroupby function"),
    ("GB().batchgroupby(str, 2).run()", "batchgroupby reducer argument must be a function"),
    ("GB().aggregate(0, 1, str).run()", "aggregate seqOp argument must be a function"),
    ("GB().aggregateby(str, 0, str, 1).run()", "aggregateby combOp argument must be a function"),
    ("GB().avg(1).run()", "map argument must be a function"),
    ("GB().countby(1).run()", "aggregateby extractor argument must be a function"),
    ("GB().collect(1).run()", "wrong number of args to collect function"),
    ("GB().limit().run()", "wrong number of args to limit function"),
    ("GB().limit('many').run()", "limit argument must be a number"),
    ("GB().limit(1, -1).run()", "limit argument must be a number"),
    # what triggers
    ("GB().register(1)", "regex argument must be a string"),
    ("GB().register(prefix=1)", "regex argument must be a string"),
    ("GB().register(regex=[])", "regex argument must be a string"),
    ("GB().register(mode=1)", "execution mode argument must be a string"),
    ("GB().register(mode='later')", "unknown execution mode"),
    ("GB().register(mode='sync')", "mode 'sync' is not supported for events"),
    ("GB().register(onRegistered=1)", "OnRegistered argument must be a function"),
    ("GB().register(eventTypes=1)", "given eventTypes is not iterable"),
    ("GB().register(eventTypes=[1])", "given event type is not string"),
    ("GB().register(eventTypes='set')", "eventTypes must be a list"),
    ("GB().register(keyTypes=5)", "given keyTypes is not iterable"),
    ("GB().register(keyTypes=[5])", "given key type is not string"),
    ("GB().register(keyTypes=['text'])", "unknown key type 'text'"),
    ("GB().register(commands=1)", "given commands is not iterable"),
    ("GB().register(commands=[1])", "given command type is not string"),
    ("GB().register(readValue=1)", "readValue value is not boolean"),
    ("GB().register(coalesce=1)", "coalesce value is not boolean"),
    ("GB().register(evenTypes=['set'])", r"register\(\) of KeysReader has no argument 'evenTypes'"),
    ("GB().register(batch=5)", "has no argument 'batch'"),
    ("GB().register(eventTypes=['keymiss', 'set'])", "'keymiss' stands alone"),
    ("GB().register(eventTypes=['keymiss'], keyTypes=['string'])", "a key that is missed is 'empty'"),
    ("GB().register(eventTypes=['keymiss'], coalesce=True)", "coalesce is for events"),
    # commands
    ("GB().register(commands=['get'])", "Can not hook a command that changes nothing: 'get'"),
    ("GB().register(commands=['multi'])", "Can not hook a command which are not allowed inside a script"),
    (
        "GB().register('x', commands=['xreadgroup'])",
        "Can not hook a command with moveable keys by key prefix",
    ),
    ("GB().register(commands=['nosuch'])", "Can not hook an unexisting command: 'nosuch'"),
    ("GB('CommandReader').run()", "Given reader do not support run"),
    ("GB('CommandReader').register()", "no trigger or hook argument was given"),
    ("GB('CommandReader').register(trigger=1)", "trigger argument is not string"),
    ("GB('CommandReader').register(hook='')", "hook argument is not string"),
    ("GB('CommandReader').register(trigger='t', hook='get')", "trigger argument can not be given with"),
    ("GB('CommandReader').register(trigger='t', inorder=True)", "inorder is not supported"),
    ("GB('CommandReader').register(hook='exec')", "Can not override a command which are not allowed inside"),
    ("GB('CommandReader').register(hook='nosuch')", "Can not override an unexisting command"),
    (
        "GB('CommandReader').register(hook='eval', keyprefix='a')",
        "Can not override a command with? moveable keys|not allowed",
    ),
    ("GB().register(eventTypes=['keymiss'], commands=['get', 'hget'])", r"commands=\['hget'\]: only the GET"),
    ("GB().register(eventTypes=['keymiss'], commands=['mget'])", r"commands=\['get'\] or \['get', 'mget'\]"),
    # streams
    ("GB('StreamReader').register(duration='1')", "duration argument must be a number"),
    ("GB('StreamReader').register(trimStream='yes')", "trimStream value is not boolean"),
    ("GB('StreamReader').register(onFailedPolicy=1)", "onFailedPolicy must be one of"),
    ("GB('StreamReader').register(eventTypes=['xadd'])", "has no argument 'eventTypes'"),
    ("GB('StreamReader').register(mode='sync')", "mode 'sync' is not supported for streams"),
    ("GB('ShardsIDReader').register()", "register.. works with KeysReader, StreamReader"),
    # the rest
    ("execute(1)", "the given command must be a string"),
    ("execute()", "the given command must be a string"),
    ("call_next()", "Can not get CommandHook ctx"),
    ("gearsFuture()", "Future object can only be created inside certain execution steps"),
    ("registerTE('2', str)", "time argument must be a long"),
    ("registerTE(0, str)", "time argument must be a long"),
    ("registerTE(1, 2)", "callback must be a function"),
    ("registerTE(1, str, 5)", "key argument must be a string"),
]


@pytest.mark.parametrize(("script", "says"), REFUSED, ids=[script for script, _ in REFUSED])
def test_it_is_refused(shard: redis.Redis, script: str, says: str) -> None:
    with pytest.raises(redis.ResponseError, match=f"FAILED GearsError: .*{says}"):
        shard.execute_command("RG.PYEXECUTE", script)
    assert shard.execute_command("RG.DUMPREGISTRATIONS") == []


def test_a_refused_command_does_what_it_always_did(shard: redis.Redis) -> None:
    script = "GB('CommandReader').map(lambda r: '-ERR no').register(hook='set', keyprefix='h:'); 1 / 0"
    with pytest.raises(redis.ResponseError):
        shard.execute_command("RG.PYEXECUTE", script)
    assert shard.set("h:1", "x")


OPTIONS = [
    (("ID",), "ID is missing"),
    (("ID", "a b"), "ID must be compose of"),
    (("ID", ""), "ID must be compose of"),
    (("DESCRIPTION",), "DESCRIPTION is missing"),
    (("ID", "mine", "REPLACE_WITH"), "REPLACE_WITH is missing"),
    (("ID", "mine", "REPLACE_WITH", "other"), "Can not replace with other, session does not exists"),
    (("UNBLOCKING", "REPLACE_WITH", "other"), "REPLACE_WITH needs an ID"),
    (("FORCE_REINSTALL_REQUIREMENTS",), "no server installs requirements"),
    (("extra",), "Unknown arguments were given"),
]


@pytest.mark.parametrize(("options", "says"), OPTIONS)
def test_an_option_that_cannot_be(shard: redis.Redis, options: tuple[str, ...], says: str) -> None:
    with pytest.raises(redis.ResponseError, match=says):
        shard.execute_command("RG.PYEXECUTE", "GB().register('x:')", *options)
    assert shard.execute_command("RG.DUMPREGISTRATIONS") == []


REQUIREMENTS = [
    ("redis==3", r"requirement 'redis==3' is not met: redis is [0-9.]+ here"),
    ("redis>=2,<=3", "is not met"),
    ("no-such-package-of-ours", "is not installed in the worker's environment"),
    ("redis ==", "cannot be read"),
    ("", "cannot be read"),
    ("git+https://example.com/package.git", "nothing was installed from there"),
    ("redis @ https://example.com/redis.zip", "nothing was installed from there"),
]


@pytest.mark.parametrize(("requirement", "says"), REQUIREMENTS)
def test_a_requirement_that_is_not_met(shard: redis.Redis, requirement: str, says: str) -> None:
    with pytest.raises(redis.ResponseError, match=says):
        shard.execute_command("RG.PYEXECUTE", "GB().count().run()", "REQUIREMENTS", requirement)


def test_requirements_that_are_met(shard: redis.Redis) -> None:
    wanted = ("redis>=3", "numpy", "Prometheus_Client", "nothing-here; python_version < '3'")
    assert shard.execute_command("RG.PYEXECUTE", "import numpy", "REQUIREMENTS", *wanted) == "OK"
    assert shard.execute_command("RG.PYEXECUTE", "import numpy", "REQUIREMENTS") == "OK"


def test_what_is_no_number_to_the_server_is_in_the_errors(shard: redis.Redis) -> None:
    results, errors = shard.execute_command("RG.PYEXECUTE", "GB('KeysOnlyReader').run(count='many')")
    assert results == []
    assert "value is not an integer" in errors[0]
