"""register(missBatch=...): the function gets a list of misses, and answers each for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.hand_worker import Asker
from tests.servers import RedisServer, WorkerProcess, wait_until

SCRIPT = """
import asyncio, time

def body(record):
    return record['key'].split(':', 1)[1]

async def many(records):
    execute('RPUSH', 'sizes', len(records))
    for record in records:
        if body(record).startswith('fails'):
            fail_reply(ValueError('no luck'), record)
        elif not body(record).startswith(('silent', 'slow')):
            override_reply('made ' + body(record), record)
    while execute('EXISTS', 'hold'):
        await asyncio.sleep(0.01)
    for record in records:
        if body(record).startswith('slow'):
            override_reply('at last ' + body(record), record)
    if any('raises' in body(record) for record in records):
        raise ValueError('all that is left')

def wrong(records):
    override_reply('x', records[0])
    override_reply('x', records[0])

def without_a_record(records):
    override_reply('x')

def blocks(records):
    for record in records:
        override_reply(body(record), record)

options = dict(mode='async_local', eventTypes=['keymiss'], commands=['get'], missBatch=8)
GB().foreach(many).register('many:', convertToStr=False, collect=False, **options)
GB().map(wrong).register('wrong:', **options)
GB().map(without_a_record).register('none:', **options)
GB().foreach(blocks).register('blocks:', **options)
"""


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as server, WorkerProcess(server, "--backend", "dummy"), server.client() as client:
        assert client.execute_command("RG.PYEXECUTE", SCRIPT) == b"OK"
        yield server


@pytest.fixture
def client(shard: RedisServer) -> Iterator[redis.Redis]:
    with shard.client() as made:
        made.delete("hold", "sizes")
        yield made


def ask(client: redis.Redis, *names: str) -> list[Any]:
    reply = client.execute_command("KM.MISSES", len(names), *names)
    return [str(value) if isinstance(value, Exception) else value for _, value in reply]


def test_one_run_for_one_request(client: redis.Redis) -> None:
    names = [f"many:{number}" for number in range(8)]
    assert ask(client, *names) == [f"made {number}".encode() for number in range(8)]
    assert client.lrange("sizes", 0, -1) == [b"8"]
    assert client.get("many:alone") == b"made alone"
    assert client.lrange("sizes", 1, -1) == [b"1"]


def test_more_than_a_batch_is_more_runs(client: redis.Redis) -> None:
    assert len(ask(client, *(f"many:{number}" for number in range(20)))) == 20
    assert sorted(client.lrange("sizes", 0, -1)) == [b"4", b"8", b"8"]


def test_what_is_ready_is_not_held_back(client: redis.Redis, shard: RedisServer) -> None:
    client.set("hold", 1)
    both = Asker(shard, "KM.MISSES", 2, "many:quick", "many:slow")
    slow = Asker(shard, "GET", "many:slow")
    wait_until(lambda: client.llen("sizes"), 10)
    assert ask(client, "many:quick") == [b"made quick"]
    partial = client.execute_command("KM.MISSES", 2, "many:other", "many:slow", "LIMIT", 300)
    assert partial[0] == [0, b"made other"]
    assert "TIMEOUT" in str(partial[1][1])
    assert not slow.answered
    client.delete("hold")
    assert slow.result() == b"at last slow"
    assert both.result() == [[0, b"made quick"], [0, b"at last slow"]]


def test_each_may_fail_and_the_rest_is_null(client: redis.Redis) -> None:
    found = ask(client, "many:fails", "many:a", "many:silent")
    assert found == ["FAILED ValueError: no luck", b"made a", None]


def test_an_error_of_the_function_is_that_of_those_without_a_reply(client: redis.Redis) -> None:
    failed = "FAILED ValueError: all that is left"
    assert ask(client, "many:a", "many:silent raises", "many:silent") == [b"made a", failed, failed]


def test_a_function_that_waits_for_nothing(client: redis.Redis) -> None:
    assert ask(client, "blocks:a", "blocks:b") == [b"a", b"b"]


def test_a_second_reply_and_one_without_a_record(client: redis.Redis) -> None:
    first, second = ask(client, "wrong:a", "wrong:b")
    assert first == b"x"
    assert second == "FAILED GearsError: override_reply can be called once only for a record"
    (said,) = ask(client, "none:a")
    assert "needs one of the records" in said


WITH_A_MODEL = """
import asyncio, redisAI

async def one(record):
    number = int(record['key'].rpartition(':')[2])
    runner = redisAI.createModelRunner('absent' if number == 7 else 'small')
    if number != 9:
        redisAI.modelRunnerAddInput(runner, 'x', redisAI.createTensorFromValues('FLOAT', [1, 2], [number, 0]))
    for name in 'y' * (3 if number == 11 else 2):
        redisAI.modelRunnerAddOutput(runner, name)
    try:
        first, second = await redisAI.modelRunnerRunAsync(runner)
        override_reply(str(redisAI.tensorToFlatList(first) + redisAI.tensorToFlatList(second)), record)
    except Exception as error:
        fail_reply(error, record)

async def many(records):
    await asyncio.gather(*map(one, records))

GB().foreach(many).register('model:', convertToStr=False, collect=False, mode='async_local',
                            eventTypes=['keymiss'], commands=['get'], missBatch=64)
"""


def test_what_is_asked_of_a_model_at_once_is_each_ones_own(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "small", "TORCH", "CPU", "BLOB", '{"outputs": 2}')
    assert client.execute_command("RG.PYEXECUTE", WITH_A_MODEL) == b"OK"
    got = ask(client, *(f"model:{number}" for number in range(64)))
    assert [number for number, one in enumerate(got) if isinstance(one, str)] == [7, 9, 11]
    assert "there is no model at absent" in got[7]
    assert "no inputs" in got[9]
    assert "the model has 2 outputs, 3 were asked for" in got[11]
    for number in set(range(64)) - {7, 9, 11}:
        assert got[number] == str([float(number), 0.0, number + 1.0, 1.0]).encode()
    assert client.execute_command("AI.INFO", "small")[13::2] == [61, 63, 2]  # samples, calls, errors


def test_a_worker_that_ends_in_the_middle_leaves_nobody_without_a_reply() -> None:
    with RedisServer() as own, WorkerProcess(own) as worker, own.client() as client:
        client.execute_command("RG.PYEXECUTE", SCRIPT)
        client.config_set("keymiss.noworker-grace-ms", 30_000)
        client.set("hold", 1)
        asker = Asker(own, "KM.MISSES", 3, "many:a", "many:slow b", "many:slow c")
        wait_until(lambda: client.llen("sizes"), 10)
        worker.kill()
        client.delete("hold")
        worker.start()
        assert asker.result() == [[0, b"made a"], [0, b"at last slow b"], [0, b"at last slow c"]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("missBatch=1, eventTypes=['keymiss']", "missBatch must be a whole number from 2 to 1000, not 1"),
        ("missBatch=True, eventTypes=['keymiss']", "missBatch must be a whole number"),
        ("missBatch='9', eventTypes=['keymiss']", "missBatch must be a whole number"),
        ("missBatch=9, eventTypes=['set']", "missBatch is for functions that answer misses"),
        ("missBatch=9", "missBatch is for functions that answer misses"),
    ],
)
def test_bad_registrations(client: redis.Redis, options: str, says: str) -> None:
    with pytest.raises(redis.ResponseError, match=says):
        client.execute_command("RG.PYEXECUTE", f"GB().map(str).register('x:', {options})")
