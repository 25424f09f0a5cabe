"""BATCHSIZE, MINBATCHSIZE, MINBATCHTIMEOUT: runs of one model that are alike are one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.cluster.torch_models import NumberOfRows, SumOfRows, torch_blob
from tests.hand_worker import Asker, HandWorker
from tests.servers import RedisServer, WorkerProcess, connect, keymiss_info, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as server, WorkerProcess(server):
        yield server


@pytest.fixture
def client(shard: RedisServer) -> Iterator[Any]:
    with shard.client() as connected:
        yield connected


def store(client: Any, key: str, *options: object, module: Any = NumberOfRows) -> None:
    client.execute_command("AI.MODELSTORE", key, "TORCH", "CPU", *options, "BLOB", torch_blob(module()))


def asker(server: RedisServer, key: str, number: int, rows: int, columns: int = 2, outputs: int = 1) -> Asker:
    with server.client() as client:
        client.execute_command("AI.TENSORSET", f"in{number}", "FLOAT", rows, columns)
    made = [f"out{number}-{output}" for output in range(outputs)]
    return Asker(server, "AI.MODELEXECUTE", key, "INPUTS", 1, f"in{number}", "OUTPUTS", outputs, *made)


def result(client: Any, number: int) -> list[float]:
    return [float(value) for value in client.execute_command("AI.TENSORGET", f"out{number}-0", "VALUES")]


def test_a_run_waits_until_enough_rows_are_there(shard: RedisServer, client: Any) -> None:
    store(client, "m", "BATCHSIZE", 8, "MINBATCHSIZE", 4)
    first = asker(shard, "m", 1, rows=1)
    second = asker(shard, "m", 2, rows=2)
    wait_until(lambda: keymiss_info(client)["jobs_queued"] == 2, 5)
    other = asker(shard, "m", 3, rows=2, columns=3)  # not alike
    wait_until(lambda: keymiss_info(client)["jobs_queued"] == 3, 5)
    third = asker(shard, "m", 4, rows=1)
    assert [one.result() for one in (first, second, third)] == [b"OK"] * 3
    assert (result(client, 1), result(client, 2), result(client, 4)) == ([4], [4, 4], [4])
    assert not other.answered
    asker(shard, "m", 5, rows=2, columns=3).result()
    assert other.result() == b"OK"
    assert client.execute_command("AI.INFO", "m")[13::2] == [8, 2, 0]  # samples, calls, errors


def test_it_waits_no_longer_than_it_is_told(shard: RedisServer, client: Any) -> None:
    store(client, "m", "BATCHSIZE", 8, "MINBATCHSIZE", 4, "MINBATCHTIMEOUT", 50)
    began_s = time.monotonic()
    assert asker(shard, "m", 1, rows=3).result() == b"OK"
    assert 0.04 < time.monotonic() - began_s < 5
    assert result(client, 1) == [3, 3, 3]


def test_more_rows_than_a_batch_has_run_alone(shard: RedisServer, client: Any) -> None:
    store(client, "m", "BATCHSIZE", 4, "MINBATCHSIZE", 4)
    assert asker(shard, "m", 1, rows=5).result() == b"OK"
    assert result(client, 1) == [5] * 5


def test_a_model_that_loses_rows_is_told_apart(shard: RedisServer, client: Any) -> None:
    store(client, "bad", "BATCHSIZE", 4, "MINBATCHSIZE", 3, module=SumOfRows)
    both = [asker(shard, "bad", number, rows=2, outputs=2) for number in (1, 2)]
    assert [str(one.result()) for one in both] == ["Model did not generate the expected batch size"] * 2
    store(client, "bad", "BATCHSIZE", 4, module=SumOfRows)
    assert asker(shard, "bad", 1, rows=2, outputs=2).result() == b"OK"  # alone it may


def test_who_leaves_takes_its_rows_along(shard: RedisServer, client: Any) -> None:
    store(client, "m", "BATCHSIZE", 4, "MINBATCHSIZE", 4)
    client.execute_command("AI.TENSORSET", "in9", "FLOAT", 2, 2)
    connection = connect(shard.port).connection_pool.get_connection()
    connection.send_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "in9", "OUTPUTS", 1, "out9-0")
    wait_until(lambda: keymiss_info(client)["jobs_queued"] == 1, 5)
    connection.disconnect()
    wait_until(lambda: keymiss_info(client)["jobs_queued"] == 0, 5)
    run = asker(shard, "m", 1, rows=2)
    wait_until(lambda: keymiss_info(client)["jobs_queued"] == 1, 5)
    assert not run.answered
    asker(shard, "m", 2, rows=2).result()
    assert run.result() == b"OK"


def test_its_time_is_over_while_it_waits(client: Any) -> None:
    store(client, "m", "BATCHSIZE", 4, "MINBATCHSIZE", 4)
    client.execute_command("AI.TENSORSET", "in9", "FLOAT", 2, 2)
    run = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "in9", "OUTPUTS", 1, "out9-0", "TIMEOUT", 100)
    assert client.execute_command(*run) == b"TIMEDOUT"
    assert keymiss_info(client)["jobs_queued"] == 0
    client.config_set("keymiss.model-timeout-ms", 100)
    try:
        with pytest.raises(ResponseError, match="TIMEOUT"):
            client.execute_command(*run[:-2])
    finally:
        client.config_set("keymiss.model-timeout-ms", 60000)


def test_what_waits_in_the_queue_is_one_run_up_to_the_batch(server: RedisServer) -> None:
    client = server.client()
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 4, "BLOB", b"x")
    worker = HandWorker(server)
    runs = [asker(server, "m", number, rows=rows) for number, rows in enumerate((1, 2, 2, 1, 4))]
    wait_until(lambda: keymiss_info(client)["jobs_queued"] == 5, 5)
    order = {}
    for _ in range(5):
        jobs = worker.pull(max_jobs=1, block_ms=0)
        for job in jobs:
            order[job.payload[2]] = len(order)
            assert (job.kind, job.batch) == ("model", 4)
            assert job.registration.startswith("batch-")
        total = sum(int(client.execute_command("AI.TENSORGET", job.payload[2], "META")[3][0]) for job in jobs)
        assert total <= 4
        for job in jobs:
            worker.done(job, b"+OK\r\n")
    assert len(order) == 5
    assert [run.result() for run in runs] == [b"OK"] * 5
