"""What a function waits for: gearsFuture, and a run beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, wait_until


@pytest.fixture(scope="module")
def shard() -> Iterator[redis.Redis]:
    with RedisServer() as server, WorkerProcess(server), server.client(decode_responses=True) as client:
        yield client


def upload(client: redis.Redis, script: str) -> None:
    assert client.execute_command("RG.PYEXECUTE", script) == "OK"


HELD = """
held = []
def hold(*_):
    held.append(gearsFuture())
    return held[-1]
def release(words):
    while held:
        future = held.pop()
        if words[1] == 'fail':
            future.continueFailed('did not work')
        else:
            future.continueRun(words[1])
GB('CommandReader').foreach(release).register(trigger='release-{name}', mode='async_local')
GB('CommandReader').{step}.register(trigger='hold-{name}', mode='async_local')
"""
STEPS = {
    "map": ("map(hold)", ["x"]),
    "flatmap": ("flatmap(hold)", ["x"]),
    "foreach": ("foreach(hold).map(len)", ["1"]),
    "filter": ("filter(hold).map(len)", ["1"]),
    "accumulate": ("accumulate(hold)", ["x"]),
    "groupby": ("localgroupby(lambda w: 'k', hold).map(lambda r: r['value'])", ["x"]),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_record_goes_on_when_somebody_says_so(shard: redis.Redis, name: str) -> None:
    step, expected = STEPS[name]
    upload(shard, HELD.format(name=name, step=step))
    with ThreadPoolExecutor(1) as pool:
        for word, comes_to in (("x", expected), ("fail", "did not work")):
            held = pool.submit(shard.execute_command, "RG.TRIGGER", f"hold-{name}")

            def released(word: str = word) -> bool:
                shard.execute_command("RG.TRIGGER", f"release-{name}", word)
                return held.done()  # noqa: B023

            wait_until(released, 20, "it is released")
            error = held.exception()
            assert (str(error) if error else held.result()) == comes_to


def test_wrong_use(shard: redis.Redis) -> None:
    upload(shard, "GB('CommandReader').map(lambda _: gearsFuture()).register(trigger='gone')")
    with pytest.raises(redis.ResponseError, match="Async record did not called continue"):
        shard.execute_command("RG.TRIGGER", "gone")
    early = "def early(_):\n    f = gearsFuture()\n    f.continueRun(1)\n    return f\n"
    upload(shard, early + "GB('CommandReader').map(early).register(trigger='early')")
    with pytest.raises(redis.ResponseError, match="Can not handle future untill it returned"):
        shard.execute_command("RG.TRIGGER", "early")
    for step, says in (
        ("repartition(lambda x: gearsFuture())", "Step does not support async"),
        ("batchgroupby(lambda x: x, lambda k, l: gearsFuture())", "Step does not support async"),
    ):
        _, errors = shard.execute_command("RG.PYEXECUTE", f"GB('ShardsIDReader').{step}.run()")
        assert says in errors[0]
    coroutine = "async def later(*_):\n    return 'x'\n"
    for step in ("repartition(later)", "batchgroupby(lambda x: x, later)"):
        _, errors = shard.execute_command("RG.PYEXECUTE", f"{coroutine}GB('ShardsIDReader').{step}.run()")
        assert "coroutine are not allow on" in errors[0]


def test_an_event_may_wait_for_the_next_one(shard: redis.Redis) -> None:
    upload(
        shard,
        "last = []\n"
        "def wait_for_the_next(r):\n"
        "    if last:\n"
        "        last.pop().continueRun(r['key'])\n"
        "    last.append(gearsFuture())\n"
        "    return last[-1]\n"
        "GB().map(wait_for_the_next).foreach(lambda key: execute('SADD', 'followed', key))"
        ".register('chain:', eventTypes=['set'], readValue=False, mode='async_local')",
    )
    shard.set("chain:1", 1)
    shard.set("chain:2", 1)
    wait_until(lambda: shard.smembers("followed") == {"chain:2"}, 20, "the first went on")


def test_a_stream_waits_for_its_entry_and_no_other_stream_does(shard: redis.Redis) -> None:
    """An entry that waits is not read once more, and the next one of its stream comes after it."""
    upload(
        shard,
        "waiting = {}\n"
        "def wait(record):\n"
        "    waiting.setdefault(record['key'], []).append((gearsFuture(), record))\n"
        "    execute('RPUSH', 'begun', record['key'] + record['value']['n'])\n"
        "    return waiting[record['key']][-1][0]\n"
        "def go_on(words):\n"
        "    future, record = waiting[words[1]][0]\n"
        "    future.continueRun(record)\n"
        "    waiting[words[1]].pop(0)\n"
        "GB('CommandReader').foreach(go_on).register(trigger='go-on', mode='async_local')\n"
        "GB('StreamReader').map(wait)"
        ".foreach(lambda r: execute('RPUSH', 'ended', r['key'] + r['value']['n']))"
        ".register('wait:', mode='async_local')",
    )

    def go_on(stream: str) -> None:  # an error until the function has returned its future
        wait_until(lambda: shard.execute_command("RG.TRIGGER", "go-on", stream), 20, "it waits")

    for n in (1, 2, 3):
        shard.xadd("wait:a:", {"n": n})
    wait_until(lambda: shard.llen("begun") == 1, 20, "the first entry waits")
    shard.xadd("wait:b:", {"n": 1})
    wait_until(lambda: shard.llen("begun") == 2, 20, "the other stream's waits, too")
    for n in (1, 2, 3):
        assert shard.llen("ended") == n - 1
        go_on("wait:a:")
        wait_until(lambda n=n: shard.llen("ended") == n, 20, "the entry has ended")  # type: ignore[misc]
        wait_until(lambda n=n: shard.xlen("wait:a:") == 3 - n, 20, "it is gone")  # type: ignore[misc]
        if n < 3:
            wait_until(lambda n=n: shard.llen("begun") == n + 2, 20, "the next one waits")  # type: ignore[misc]
    go_on("wait:b:")
    wait_until(lambda: shard.llen("ended") == 4, 20, "the other stream's has ended")
    assert shard.lrange("begun", 0, -1) == ["wait:a:1", "wait:b:1", "wait:a:2", "wait:a:3"]
    assert shard.lrange("ended", 0, -1) == ["wait:a:1", "wait:a:2", "wait:a:3", "wait:b:1"]


def test_a_run_in_a_function_is_awaited_or_not(shard: redis.Redis) -> None:
    shard.mset({"d:1": 1, "d:2": 2})
    upload(
        shard,
        "async def total(words):\n"
        "    results, errors = await GB().map(lambda r: int(r['value']) * int(words[1])).sort().run('d:*')\n"
        "    return results + errors\n"
        "GB('CommandReader').flatmap(total).sort().register(trigger='total', mode='async_local')\n"
        "def aside(words):\n"
        "    GB().foreach(lambda r: execute('SET', 'aside', words[1])).run('d:1')\n"
        "GB('CommandReader').foreach(aside).register(trigger='aside', mode='async_local')\n"
        "async def bad(words):\n"
        "    return await GB('d').run()\n"
        "GB('CommandReader').map(bad).register(trigger='bad', mode='async_local')",
    )
    assert shard.execute_command("RG.TRIGGER", "total", "10") == ["10", "20"]
    shard.execute_command("RG.TRIGGER", "aside", "done")
    wait_until(lambda: shard.get("aside") == "done", 20, "it ran")
    with pytest.raises(redis.ResponseError, match="reader does not exists"):
        shard.execute_command("RG.TRIGGER", "bad")


def test_on_a_cluster_each_shard_has_the_globals_of_its_upload() -> None:
    with RedisClusterServers(masters=2, replicas=0) as servers, WorkerProcess(servers):
        first, second = (master.client(decode_responses=True) for master in servers.masters)
        upload(
            first,
            "told = []\n"
            "async def tell(words):\n"
            "    def note(_):\n"
            "        global told\n"
            "        told = told + [words[1]]\n"
            "    results, errors = await GB('ShardsIDReader').foreach(note).run()\n"
            "    return len(results), errors\n"
            "GB('CommandReader').map(tell).register(trigger='tell', mode='async_local')\n"
            "GB('CommandReader').map(lambda _: ','.join(told)).register(trigger='told', mode='async_local')",
        )
        assert first.execute_command("RG.TRIGGER", "tell", "a") == ["(2, [])"]
        assert second.execute_command("RG.TRIGGER", "tell", "b") == ["(2, [])"]
        for client in (first, second):
            assert client.execute_command("RG.TRIGGER", "told") == ["a,b"]


def test_a_run_does_not_wait_longer_than_it_should() -> None:
    with (
        RedisClusterServers(masters=2, replicas=0) as servers,
        WorkerProcess(servers),
        servers.masters[0].client(decode_responses=True) as client,
    ):
        client.execute_command("RG.CONFIGSET", "ExecutionMaxIdleTime", 500)
        script = (
            "import time\nhere = hashtag()\n"
            "def slow(_):\n"
            "    for _ in range(3000 if hashtag() != here else 0):\n"
            "        time.sleep(0.01)\n"
            "    return 1\n"
            "GB('ShardsIDReader').map(slow).run()"
        )
        assert client.execute_command("RG.PYEXECUTE", script) == [["1"], ["Execution max idle reached"]]
