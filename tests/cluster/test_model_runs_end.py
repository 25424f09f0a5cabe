"""A model run that never ends is ended when its time is over, alone; a killed worker leaves no process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from keymiss.worker.model_processes.memory import family_of, memory_of
from tests.patience import patient, slower
from tests.servers import RedisServer, WorkerProcess, wait_until
from tests.unit.test_model_processes import ENDLESS

FUNCTION = """
import redisAI

async def answer(record):
    runner = redisAI.createModelRunner(record['key'].split(':')[1])
    redisAI.modelRunnerAddInput(runner, 'x', redisAI.createTensorFromValues('FLOAT', [1], [1]))
    redisAI.modelRunnerAddOutput(runner, 'y')
    override_reply(redisAI.tensorToFlatList((await redisAI.modelRunnerRunAsync(runner))[0]))

async def on_event(record):
    await answer({'key': 'x:TORCH-endless'})

GB().foreach(answer).register('ask:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
GB(desc='event').foreach(on_event).register('event:', eventTypes=['set'], mode='async_local')
"""
RUN = ("INPUTS", 1, "x", "OUTPUTS", 1, "y")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer("--keymiss.miss-timeout-ms", "2000", "--keymiss.model-timeout-ms", "2000") as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with server.client() as client:
        client.flushall()
        client.execute_command("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
        for backend, (endless, twice) in ENDLESS.items():
            client.execute_command("AI.MODELSTORE", f"{backend}-endless", backend, "CPU", "BLOB", endless())
            client.execute_command("AI.MODELSTORE", f"{backend}-twice", backend, "CPU", "BLOB", twice())
        yield client


def processes_of(worker: WorkerProcess) -> list[int]:
    return family_of(worker.pid)[1:]


def runs(client: Any, key: str) -> bool:
    limit_ms = int(patient(20) * 1000)
    return bool(client.execute_command("AI.MODELEXECUTE", key, *RUN, "TIMEOUT", limit_ms) == b"OK")


def cpu_s(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11])


@pytest.mark.parametrize("backend", list(ENDLESS))
def test_runs_without_an_end(server: RedisServer, client: Any, backend: str) -> None:
    """As many as there are cores, and more: others run meanwhile, and afterwards nothing runs on."""
    with WorkerProcess(server, "--model-threads", "2") as worker:
        assert runs(client, f"{backend}-twice")
        with pytest.raises(ResponseError) as error:
            client.execute_command("AI.MODELEXECUTE", f"{backend}-endless", *RUN)
        assert str(error.value).startswith("TIMEOUT no answer came in time, so the run ends")
        assert "Exiting due to terminate flag being set to true" in str(error.value)  # as RedisAI has it
        assert str(error.value).endswith("raise TIMEOUT of AI.MODELEXECUTE, or keymiss.model-timeout-ms")
        for timeout_ms in (1000, 700):
            assert runs(client, f"{backend}-twice")
            endless = ("AI.MODELEXECUTE", f"{backend}-endless", *RUN, "TIMEOUT", timeout_ms)
            assert client.execute_command(*endless) == b"TIMEDOUT"
        assert runs(client, f"{backend}-twice")
        wait_until(lambda: worker.log_text().count("model_run_ended") == 3)
        spent = {pid: cpu_s(pid) for pid in processes_of(worker)}
        time.sleep(1)
        assert all(cpu_s(pid) - before < 20 for pid, before in spent.items() if memory_of(pid))
        assert client.info("keymiss")["keymiss_jobs_running"] == 0


def test_a_function_is_told(server: RedisServer, client: Any) -> None:
    """One that a client waits for, and one that nobody does."""
    with WorkerProcess(server, "--model-threads", "2", "--model-limit-s", "1") as worker:
        assert runs(client, "TORCH-twice")
        assert client.execute_command("RG.PYEXECUTE", FUNCTION) == b"OK"
        assert client.execute_command("GET", "ask:TORCH-twice") == [b"2.0"]
        with pytest.raises(ResponseError, match=r"TIMEOUT .* or raise keymiss\.miss-timeout-ms"):
            client.get("ask:TORCH-endless")
        wait_until(lambda: "was ended: keymiss.miss-timeout-ms" in worker.log_text())
        client.set("event:1", "x")
        text = "was ended: --model-limit-s of the worker, 1 s"
        wait_until(lambda: text in str(client.execute_command("RG.DUMPREGISTRATIONS")))


def test_libraries_are_there_from_the_start_or_when_a_model_comes(server: RedisServer, client: Any) -> None:
    with WorkerProcess(server, "--preload") as worker:
        first = processes_of(worker)
        assert len(first) == 1
        assert runs(client, "TORCH-twice")
        assert processes_of(worker)[0] == first[0]
    with WorkerProcess(server) as worker:
        client.execute_command("RG.PYEXECUTE", "GB('KeysOnlyReader').run()")
        assert processes_of(worker) == []
        assert runs(client, "TORCH-twice")
        assert processes_of(worker)


def test_a_worker_that_is_killed_leaves_no_process(server: RedisServer, client: Any) -> None:
    """Not even one that runs, or was only just started."""
    worker = WorkerProcess(server).start()
    assert runs(client, "TORCH-twice")
    endless = ("AI.MODELEXECUTE", "TORCH-endless", *RUN)
    with server.client() as other:
        connection = other.connection_pool.get_connection()
        connection.send_command(*endless, "TIMEOUT", 100_000)
        wait_until(lambda: len([pid for pid in processes_of(worker) if memory_of(pid)]) == 5)
        pids = processes_of(worker)
        worker.kill()
        wait_until(lambda: not any(map(memory_of, pids)))
        connection.disconnect()
    worker.discard()
    worker = WorkerProcess(server, "--preload").start(wait=False)
    wait_until(lambda: processes_of(worker))
    pids = processes_of(worker)
    worker.kill()
    wait_until(lambda: not any(map(memory_of, pids)))
    worker.discard()


def test_a_model_is_replaced_while_it_runs(server: RedisServer, client: Any) -> None:
    """What runs ends with the model that it began with; whoever asks then gets the new one, and the old
    one's processes go."""
    with WorkerProcess(server) as worker:
        assert runs(client, "ONNX-twice")
        before = processes_of(worker)
        with server.client() as other:
            connection = other.connection_pool.get_connection()
            connection.send_command(
                "AI.MODELEXECUTE", "TORCH-endless", *RUN, "TIMEOUT", int(slower(2) * 1000)
            )
            wait_until(lambda: len(processes_of(worker)) == len(before) + 2)
            old = set(processes_of(worker)) - set(before)
            client.execute_command(
                "AI.MODELSTORE", "TORCH-endless", "ONNX", "CPU", "BLOB", ENDLESS["ONNX"][1]()
            )
            assert runs(client, "TORCH-endless")
            assert any(map(memory_of, old))
            assert connection.read_response() == b"TIMEDOUT"
            connection.disconnect()
        wait_until(lambda: not any(map(memory_of, old)))
