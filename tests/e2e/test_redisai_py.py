"""redisai-py 1.2.0, in the environment of old clients, stores and runs a model on one server."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.e2e.test_gearsclient import run_documented
from tests.e2e.test_redis_py_cluster import old_python  # noqa: F401  (a fixture)
from tests.patience import patient
from tests.servers import RedisServer, WorkerProcess

CALLS = """
import sys
import numpy as np
from redisai import Client

client = Client(host="127.0.0.1", port=int(sys.argv[1]))
tensor = np.arange(6, dtype=np.int64).reshape(1, 2, 3)
client.tensorset("t", tensor)
back = client.tensorget("t")
kept = client.modelget("adder{t}")
with open(sys.argv[2], "rb") as file:
    same_blob = kept.pop("blob") == file.read()

def error(call):
    try:
        return call()
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"

print({
    "tensor": (back.tolist(), str(back.dtype)),
    "meta": client.tensorget("t", meta_only=True),
    "model": (kept["backend"], kept["device"], kept["tag"], same_blob),
    "no tensor": error(lambda: client.modelexecute("adder{t}", ["x{t}", "none{t}"], ["out{t}"])),
    "bad shape": error(lambda: client.modelexecute("adder{t}", ["x{t}", "t"], ["out{t}"])),
    "reset": (client.inforeset("adder{t}"), client.infoget("adder{t}")["calls"]),
    "deleted": (client.modeldel("adder{t}"), error(lambda: client.modelget("adder{t}"))),
})
"""


class Adder(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A TorchScript file of `Adder`."""
    file = tmp_path / "adder.pt"
    example = (torch.zeros(2, 2), torch.zeros(2, 2))
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(Adder(), example), str(file))
    return file


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_the_documented_program_and_the_calls_around_it(
    server: RedisServer,
    worker: WorkerProcess,
    old_python: Path,  # noqa: F811
    model_file: Path,
    tmp_path: Path,
) -> None:
    ran = run_documented("redisai_py.py", old_python, tmp_path, str(server.port), str(model_file))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["[[11.0, 22.0], [33.0, 44.0]]", "1"]
    with server.client() as client:
        stored = client.execute_command("AI.TENSORGET", "sum{t}", "BLOB")
    assert np.frombuffer(stored, np.float32).tolist() == [11, 22, 33, 44]

    ran = subprocess.run(
        [str(old_python), "-W", "ignore", "-c", CALLS, str(server.port), str(model_file)],
        capture_output=True,
        text=True,
        timeout=patient(60),
    )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = ast.literal_eval(ran.stdout)
    assert said["tensor"] == ([[[0, 1, 2], [3, 4, 5]]], "int64")
    assert said["meta"] == {"dtype": "INT64", "shape": [1, 2, 3]}
    assert said["model"] == ("TORCH", "CPU", "v1", True)
    assert "ResponseError" in said["no tensor"]
    assert "ResponseError" in said["bad shape"]
    assert "size" in said["bad shape"]
    assert said["reset"] == ("OK", 0)
    assert said["deleted"][0] == "OK"
    assert "ResponseError" in said["deleted"][1]
