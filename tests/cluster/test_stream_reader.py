"""A StreamReader: batches in order, what becomes of them, and that none is lost when a worker dies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.cluster.pipeline import upload_source
from tests.servers import RedisServer, WorkerProcess, keymiss_info, wait_until

# Writes each batch down as JSON; a record with a field "fail" fails while the key "broken" is there.
SCRIPT = """
import json
def gather(together, record):
    return (together or []) + [record]
def note(records):
    execute('RPUSH', 'seen', json.dumps([[r['key'], r['id'], r['value']] for r in records]))
    if execute('EXISTS', 'broken') and any('fail' in r['value'] for r in records):
        raise ValueError('a record that fails')
reader = GB('StreamReader', desc='notes').accumulate(gather).foreach(note)
reader.register(prefix='in:', mode='async_local', {options})
"""
# Stays in its second batch until the key "go" is there.
HELD = """
import json, time
def gather(together, record):
    return (together or []) + [record]
def note(records):
    execute('RPUSH', 'seen', json.dumps([[r['key'], r['id'], r['value']] for r in records]))
    while execute('LLEN', 'seen') == 2 and not execute('EXISTS', 'go'):
        time.sleep(0.01)
GB('StreamReader').accumulate(gather).foreach(note).register(prefix='in:', mode='async_local', {options})
"""


@pytest.fixture
def client(server: RedisServer, worker: WorkerProcess) -> Iterator[redis.Redis]:
    with server.client(decode_responses=True) as made:
        yield made


@pytest.fixture(scope="module")
def refusing() -> Iterator[RedisServer]:
    """A server with a worker, shared by the tests that register nothing."""
    with RedisServer() as running, WorkerProcess(running):
        yield running


def register(server: RedisServer, options: str, script: str = SCRIPT) -> None:
    upload_source(server, script.replace("{options}", options))


def seen(client: redis.Redis) -> list[list[Any]]:
    """The batches that the function has been given: [key, id, fields] of each record."""
    return [json.loads(batch) for batch in client.lrange("seen", 0, -1)]


def numbers(client: redis.Redis) -> list[list[int]]:
    """The batches by the field n."""
    return [[int(fields["n"]) for _, _, fields in batch] for batch in seen(client)]


def add(client: Any, *ns: int, stream: str = "in:a", **fields: str) -> list[str]:
    """One entry for each n, all at once; their ids."""
    pipe = client.pipeline(transaction=True)
    for n in ns:
        pipe.xadd(stream, {"n": n, **fields})
    return list(pipe.execute())


def rest(client: redis.Redis) -> None:
    """Waits until no event waits or runs."""

    def resting() -> bool:
        flat = client.execute_command("KM.STATS")
        stats = dict(zip(flat[::2], flat[1::2], strict=True))
        return not int(stats["events_queued"]) and not int(stats["events_running"])

    wait_until(resting, 20, "no event waits")


def told(client: redis.Redis, field: str) -> str:
    """Of the registration's data in RG.DUMPREGISTRATIONS."""
    (row,) = client.execute_command("RG.DUMPREGISTRATIONS")
    data = row[row.index("RegistrationData") + 1]
    return str(data[data.index(field) + 1])


def last_error(client: redis.Redis) -> str:
    return told(client, "lastError")


def status(client: redis.Redis) -> str:
    return told(client, "status")


def unpause(client: redis.Redis) -> None:
    (row,) = client.execute_command("RG.DUMPREGISTRATIONS")
    assert client.execute_command("RG.UNPAUSEREGISTRATIONS", row[1]) == "OK"


def test_batches_come_in_order_and_are_deleted(server: RedisServer, client: redis.Redis) -> None:
    register(server, "batch=3")
    ids = add(client, *range(8))
    rest(client)
    assert numbers(client) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [record for batch in seen(client) for record in batch] == [
        ["in:a", id_, {"n": str(n)}] for n, id_ in enumerate(ids)
    ]
    assert client.xlen("in:a") == 0
    assert client.exists("in:a") == 1


def test_one_record_a_batch_by_default(server: RedisServer, client: redis.Redis) -> None:
    register(server, "")
    add(client, 1, 2)
    rest(client)
    assert numbers(client) == [[1], [2]]


def test_many_records_one_by_one_keep_their_order(server: RedisServer, client: redis.Redis) -> None:
    register(server, "batch=7")
    for n in range(500):
        client.xadd("in:a", {"n": n})
    rest(client)
    assert [n for batch in numbers(client) for n in batch] == list(range(500))


def test_each_stream_of_the_prefix_by_itself(server: RedisServer, client: redis.Redis) -> None:
    register(server, "batch=10")
    add(client, 1, 2, stream="in:a")
    add(client, 3, stream="in:b")
    add(client, 4, stream="other")
    rest(client)
    assert sorted(numbers(client)) == [[1, 2], [3]]
    assert client.xlen("other") == 1


def test_fields_that_are_not_text(server: RedisServer, client: redis.Redis) -> None:
    source = """
def check(record):
    execute('SET', 'got', repr(sorted(record['value'].items(), key=repr)))
GB('StreamReader').foreach(check).register(prefix='in:', mode='async_local')
"""
    upload_source(server, source)
    client.xadd("in:a", {b"\xff": b"\xfe", "n": "ä"})
    rest(client)
    assert client.get("got") == "[('n', 'ä'), (b'\\xff', b'\\xfe')]"


def test_a_stream_that_was_there_before_is_caught_up_with(server: RedisServer, client: redis.Redis) -> None:
    add(client, 1, 2, 3)
    client.set("in:text", "not a stream")
    register(server, "batch=2")
    rest(client)
    assert numbers(client) == [[1, 2], [3]]
    assert client.xlen("in:a") == 0


def test_a_group_keeps_the_entries_and_its_place(server: RedisServer, client: redis.Redis) -> None:
    add(client, 1)
    register(server, "batch=2, trimStream=False")
    rest(client)
    add(client, 2, 3)
    rest(client)
    assert numbers(client) == [[1], [2, 3]]
    assert client.xlen("in:a") == 3
    (group,) = client.xinfo_groups("in:a")
    assert group["name"].startswith("gears-")
    assert group["pending"] == 0


def test_a_group_goes_on_where_it_stopped_with_another_worker(
    server: RedisServer, worker: WorkerProcess, client: redis.Redis
) -> None:
    register(server, "batch=2, trimStream=False")
    add(client, 1, 2)
    rest(client)
    worker.kill()
    add(client, 3)
    worker.start()
    rest(client)
    add(client, 4)
    rest(client)
    assert [n for batch in numbers(client) for n in batch] == [1, 2, 3, 4]


def test_an_entry_deleted_while_it_was_pending(server: RedisServer, client: redis.Redis) -> None:
    client.set("broken", 1)
    register(server, "batch=5, trimStream=False, onFailedPolicy='abort'")
    first, _ = add(client, 1, 2, fail="yes")
    rest(client)
    client.xdel("in:a", first)
    client.delete("broken")
    unpause(client)
    rest(client)
    add(client, 3)
    rest(client)
    batches = [[record[2] for record in batch] for batch in seen(client)]
    assert batches[1:] == [[{}, {"n": "2", "fail": "yes"}], [{"n": "3"}]]


def test_continue_passes_over_a_batch_that_fails(
    server: RedisServer, worker: WorkerProcess, client: redis.Redis
) -> None:
    client.set("broken", 1)
    register(server, "batch=2, onFailedPolicy='continue'")
    add(client, 1, 2, fail="yes")
    add(client, 3)
    rest(client)
    assert numbers(client) == [[1, 2], [3]]
    assert client.xlen("in:a") == 0
    assert "records_passed_over" in worker.log_text()


def test_abort_stays_at_a_batch_that_fails(server: RedisServer, client: redis.Redis) -> None:
    client.set("broken", 1)
    register(server, "batch=2, onFailedPolicy='abort'")
    add(client, 1, 2, fail="yes")
    rest(client)
    assert numbers(client) == [[1, 2]]
    assert "a record that fails" in last_error(client)
    client.delete("broken")
    add(client, 3)  # nothing runs before somebody says so
    rest(client)
    assert numbers(client) == [[1, 2]]
    assert status(client) == "ABORTED"
    unpause(client)
    rest(client)
    assert numbers(client) == [[1, 2], [1, 2], [3]]
    assert status(client) == "OK"
    assert client.xlen("in:a") == 0


@pytest.mark.parametrize("trim", [True, False])
def test_retry_comes_again_by_itself(server: RedisServer, client: redis.Redis, trim: bool) -> None:
    client.set("broken", 1)
    register(server, f"batch=2, onFailedPolicy='retry', onFailedRetryInterval=0.2, trimStream={trim}")
    add(client, 1, 2, fail="yes")
    wait_until(lambda: len(seen(client)) >= 3, 20, "tried three times")
    assert {tuple(batch) for batch in numbers(client)} == {(1, 2)}
    assert "a record that fails" in last_error(client)
    client.delete("broken")
    if trim:
        wait_until(lambda: client.xlen("in:a") == 0, 20, "worked off")
    else:
        wait_until(lambda: client.xinfo_groups("in:a")[0]["pending"] == 0, 20, "worked off")
    add(client, 3)
    wait_until(lambda: numbers(client)[-1] == [3], 20, "goes on")


def test_retry_outlives_its_worker(server: RedisServer, worker: WorkerProcess, client: redis.Redis) -> None:
    client.set("broken", 1)
    register(server, "batch=2, onFailedPolicy='retry', onFailedRetryInterval=3600")
    add(client, 1, fail="yes")
    rest(client)
    worker.kill()
    client.delete("broken")
    worker.start()
    wait_until(lambda: numbers(client) == [[1], [1]], 20, "the next worker catches up")


@pytest.mark.parametrize("trim", [True, False])
def test_a_batch_is_seen_again_when_the_worker_dies_in_it(
    server: RedisServer, worker: WorkerProcess, client: redis.Redis, trim: bool
) -> None:
    register(server, f"batch=2, trimStream={trim}", HELD)
    add(client, *range(5))
    wait_until(lambda: len(seen(client)) == 2, 20, "it is in the second batch")
    worker.kill()
    client.set("go", 1)
    worker.start()
    rest(client)
    assert numbers(client) == [[0, 1], [2, 3], [2, 3], [4]]
    assert client.xlen("in:a") == (0 if trim else 5)


def test_what_comes_while_a_batch_runs_waits_for_it(server: RedisServer, client: redis.Redis) -> None:
    register(server, "batch=1", HELD)
    add(client, 0, 1)
    wait_until(lambda: len(seen(client)) == 2, 20, "it is in the second batch")
    for n in range(2, 6):
        client.xadd("in:a", {"n": n})
    assert keymiss_info(client)["events_running"] == 1
    client.set("go", 1)
    rest(client)
    assert numbers(client) == [[n] for n in range(6)]


def test_a_long_stream_lets_others_have_the_thread(server: RedisServer, client: redis.Redis) -> None:
    """A job goes on in a new one after two seconds: nothing is lost or doubled between them."""
    source = """
import time
def slow(record):
    execute('RPUSH', 'seen', record['value']['n'])
    time.sleep(0.3)
GB('StreamReader').foreach(slow).register(prefix='in:', mode='async_local')
"""
    upload_source(server, source)
    add(client, *range(10))
    rest(client)
    assert client.lrange("seen", 0, -1) == [str(n) for n in range(10)]
    assert client.xlen("in:a") == 0
    assert keymiss_info(client)["jobs_done"] >= 3  # the upload, and two for the stream


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("batch=0", "batch must be a whole number from 1 to 10000"),
        ("batch=10001", "batch must be"),
        ("batch='5'", "batch must be"),
        ("batch=True", "batch must be"),
        ("onFailedPolicy='later'", "onFailedPolicy must be one of continue, abort, retry"),
        ("onFailedRetryInterval=0", "onFailedRetryInterval must be"),
        ("onFailedRetryInterval=-1", "onFailedRetryInterval must be"),
        ("onFailedRetryInterval='1'", "onFailedRetryInterval must be"),
        ("onFailedRetryInterval=float('nan')", "onFailedRetryInterval must be"),
    ],
)
def test_register_checks_its_arguments(refusing: RedisServer, options: str, says: str) -> None:
    with pytest.raises(redis.ResponseError, match=says):
        register(refusing, options)
    with refusing.client() as client:
        assert client.execute_command("RG.DUMPREGISTRATIONS") == []


@pytest.mark.parametrize("options", [(), ("ID", "mine", "UPGRADE")])
def test_an_upload_again_goes_on_where_it_was(
    server: RedisServer, worker: WorkerProcess, client: redis.Redis, options: tuple[str, ...]
) -> None:
    script = SCRIPT.replace("{options}", "batch=5, trimStream=False")
    for n in (1, 2):
        assert client.execute_command("RG.PYEXECUTE", script, *options) == "OK"
        add(client, n)
        rest(client)
    assert numbers(client) == [[1], [2]]


@pytest.mark.parametrize("trim", ["True", "False"])
def test_an_upload_again_waits_for_the_batch_that_runs(
    server: RedisServer, worker: WorkerProcess, client: redis.Redis, trim: str
) -> None:
    """It would read the same records."""
    upload = ("RG.PYEXECUTE", HELD.replace("{options}", f"trimStream={trim}"), "ID", "mine", "UPGRADE")
    assert client.execute_command(*upload) == "OK"
    add(client, 1)
    rest(client)
    add(client, 2)
    wait_until(lambda: len(seen(client)) == 2, 10, "the second batch runs")
    assert client.execute_command(*upload) == "OK"
    add(client, 3)
    client.set("go", "")
    rest(client)
    assert numbers(client) == [[1], [2], [3]]


def test_run_reads_a_stream_or_those_with_a_prefix(client: redis.Redis) -> None:
    first, second = add(client, 1, 2)
    client.xadd("in:b", {"n": 3})
    client.set("in:c", "no stream")
    after = f"GB('StreamReader').map(lambda r: (r['key'], r['value']['n'])).run('in:a', fromId={first!r})"
    assert client.execute_command("RG.PYEXECUTE", after) == [["('in:a', '2')"], []]
    every = "GB('StreamReader', 'in:*').map(lambda r: r['value']['n']).sort().run()"
    assert client.execute_command("RG.PYEXECUTE", every) == [["1", "2", "3"], []]
    ids = "GB('StreamReader').map(lambda r: r['id']).run('in:a')"
    assert client.execute_command("RG.PYEXECUTE", ids) == [[first, second], []]
    assert client.execute_command("RG.PYEXECUTE", "GB('StreamReader').run('in:none')") == [[], []]
    _, errors = client.execute_command("RG.PYEXECUTE", "GB('StreamReader').run('in:a', fromId='x')")
    assert errors == ["ERR Invalid stream ID specified as stream command argument"]


def test_a_batch_waits_for_its_duration_to_be_full(server: RedisServer, client: redis.Redis) -> None:
    register(server, "batch=2, duration=600000")
    add(client, 1)
    rest(client)
    assert numbers(client) == []
    add(client, 2)
    wait_until(lambda: numbers(client) == [[1, 2]], 20, "the batch is full")
    register(server, "batch=2, duration=300")
    add(client, 3)
    wait_until(lambda: numbers(client)[-1] == [3], 20, "its time is over")
