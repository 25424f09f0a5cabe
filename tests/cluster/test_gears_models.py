"""Models: in functions (redisAI) and by AI.MODELEXECUTE; loaded once; errors that say what is wrong."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from keymiss import keys
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess

SCRIPT = """
import redisAI
import numpy as np

def runner_for(record, outputs=1):
    name = record['key'].split(':', 1)[1]
    runner = redisAI.createModelRunner(name)
    tensor = redisAI.createTensorFromValues('FLOAT', [1, 3], [1, 2, 3])
    redisAI.modelRunnerAddInput(runner, 'x', tensor)
    for number in range(outputs):
        redisAI.modelRunnerAddOutput(runner, str(number))
    return runner

async def answer(record):
    results = await redisAI.modelRunnerRunAsync(runner_for(record))
    redisAI.setTensorInKey('result', results[0])
    blob = redisAI.tensorGetDataAsBlob(redisAI.getTensorFromKey('result'))
    values = np.frombuffer(blob, dtype=np.float32).tolist()
    override_reply([str(values), list(redisAI.tensorGetDims(results[0]))])

def answer_sync(record):
    results = redisAI.modelRunnerRun(runner_for(record, 2))
    override_reply([str(redisAI.tensorToFlatList(result)) for result in results])

GB().map(answer).register('async:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
GB().map(answer_sync).register('sync:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as server, WorkerProcess(server, "--backend", "dummy"), server.client() as client:
        assert client.execute_command("RG.PYEXECUTE", SCRIPT) == b"OK"
        yield server


@pytest.fixture
def client(shard: RedisServer) -> Iterator[Any]:
    with shard.client() as connected:
        yield connected


def store(client: Any, key: str, **spec: Any) -> None:
    blob = json.dumps({"outputs": 1, **spec}).encode()
    assert client.execute_command("AI.MODELSTORE", key, "TORCH", "CPU", "BLOB", blob) == b"OK"


def info(client: Any, key: str) -> dict[str, Any]:
    flat = client.execute_command("AI.INFO", key)
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def test_functions_run_models(client: Any) -> None:
    store(client, "good", outputs=1)
    assert client.execute_command("GET", "async:good") == [b"[1.0, 2.0, 3.0]", [1, 3]]
    store(client, "two", outputs=2)
    assert client.execute_command("GET", "sync:two") == [b"[1.0, 2.0, 3.0]", b"[2.0, 3.0, 4.0]"]
    stats = info(client, "good")
    assert (stats["calls"], stats["samples"], stats["errors"]) == (1, 1, 0)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_model_errors_reach_the_client(client: Any, kind: str) -> None:
    with pytest.raises(ResponseError, match="FAILED ModelError: there is no model at missing"):
        client.get(f"{kind}:missing")
    store(client, "failing", outputs=2, fail="out of luck")
    client.execute_command("AI.INFO", "failing", "RESETSTAT")
    with pytest.raises(
        ResponseError, match="FAILED ModelError: model failing: the model run failed: out of luck"
    ):
        client.get(f"{kind}:failing")
    stats = info(client, "failing")
    assert (stats["calls"], stats["errors"]) == (1, 1)
    with client.pipeline(transaction=True) as pipe:  # where nobody can look into it
        pipe.execute_command("AI.MODELSTORE", "bad", "TORCH", "CPU", "BLOB", b"no model").execute()
    for _ in range(2):
        with pytest.raises(ResponseError, match="FAILED ModelError: model bad: not a dummy model"):
            client.get(f"{kind}:bad")


def test_wrong_number_of_outputs(client: Any) -> None:
    store(client, "three", outputs=3)
    with pytest.raises(ResponseError, match="the model has 3 outputs, 2 were asked for"):
        client.get("sync:three")


def test_modelexecute(client: Any) -> None:
    store(client, "m", outputs=2)
    client.execute_command("AI.TENSORSET", "in", "INT64", 2, 2, "VALUES", 1, 2, 3, 4)
    run = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "in", "OUTPUTS", 2, "a", "b")
    assert client.execute_command(*run) == b"OK"
    assert [float(x) for x in client.execute_command("AI.TENSORGET", "b", "VALUES")] == [2, 3, 4, 5]
    stats = info(client, "m")
    assert (stats["calls"], stats["samples"], stats["errors"]) == (1, 2, 0)
    with pytest.raises(ResponseError, match=r"(?i)no ?such|there is no tensor|empty"):
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "nothing", "OUTPUTS", 2, "a", "b")


def test_a_model_stored_again_takes_effect_at_once(client: Any) -> None:
    store(client, "new", outputs=1)
    assert client.execute_command("GET", "async:new")[1] == [1, 3]
    store(client, "new", outputs=1, fail="second version")
    with pytest.raises(ResponseError, match="second version"):
        client.get("async:new")
    client.execute_command("AI.MODELDEL", "new")
    with pytest.raises(ResponseError, match="there is no model at new"):
        client.get("async:new")


def scripted() -> bytes:
    import torch

    class Logits(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.float(), x.float() + 1

    traced, buffer = torch.jit.trace(Logits(), (torch.ones((1, 3)),)), io.BytesIO()
    torch.jit.save(traced, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_loaded_once_for_all_shards(cluster: RedisClusterServers) -> None:
    blob, tags = scripted(), [keys.tag_for_slot(slot) for slot in (0, 8192)]
    with WorkerProcess(cluster) as worker, cluster.client() as client:
        for tag in tags:
            client.execute_command("AI.MODELSTORE", f"m{{{tag}}}", "TORCH", "CPU", "BLOB", blob)
            client.execute_command("AI.TENSORSET", f"x{{{tag}}}", "INT64", 1, 2, "VALUES", 5, 6)
        failures: list[Exception] = []

        def run(tag: str) -> None:
            try:
                with cluster.server_of(f"m{{{tag}}}").client() as mine:
                    name = f"{{{tag}}}"
                    mine.execute_command(
                        "AI.MODELEXECUTE",
                        f"m{name}",
                        "INPUTS",
                        1,
                        f"x{name}",
                        "OUTPUTS",
                        2,
                        f"s{name}",
                        f"e{name}",
                    )
                    values = mine.execute_command("AI.TENSORGET", f"e{name}", "VALUES")
                    assert [float(value) for value in values] == [6, 7]
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(tag,)) for tag in tags * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert worker.log_text().count('"model_loaded"') == 1
        bad = f"bad{{{tags[0]}}}"
        with cluster.server_of(bad).client() as mine, mine.pipeline(transaction=True) as pipe:
            pipe.execute_command("AI.MODELSTORE", bad, "TORCH", "CPU", "BLOB", b"\x00" * 100).execute()
        with pytest.raises(ResponseError, match=r"PytorchStreamReader failed|file in archive"):
            client.execute_command(
                "AI.MODELEXECUTE", bad, "INPUTS", 1, f"x{{{tags[0]}}}", "OUTPUTS", 1, f"s{{{tags[0]}}}"
            )
        assert worker.alive
