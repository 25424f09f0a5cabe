"""AI.DAGEXECUTE and its kin: steps on tensors that need no keys; a step that fails; what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.cluster.torch_models import Adds, identity_of_strings, sequence_of_two, torch_blob
from tests.servers import RedisServer, WorkerProcess

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

SCRIPT = """
def double(tensors: List[Tensor], keys: List[str], args: List[str]):
    return tensors[0] * 2

def write(tensors: List[Tensor], keys: List[str], args: List[str]):
    redis.execute('SET', keys[0], args[0])
"""
OLD = """
def double(a):
    return a * 2

def write(a):
    redis.execute('SET', 'written', 'x')
    return a
"""


@pytest.fixture(scope="module")
def shard() -> Iterator[RedisServer]:
    with RedisServer() as server, WorkerProcess(server), server.client() as client:
        execute = client.execute_command
        execute("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", torch_blob(Adds()))
        execute("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 2, "double", "write", "SOURCE", SCRIPT)
        execute("AI.SCRIPTSET", "old", "CPU", "SOURCE", OLD)
        yield server


@pytest.fixture
def client(shard: RedisServer) -> Iterator[Any]:
    with shard.client() as connected:
        connected.execute_command("AI.TENSORSET", "x", "FLOAT", 2, "VALUES", 1, 2)
        yield connected


def dag(client: Any, text: str, command: str = "AI.DAGEXECUTE") -> Any:
    return client.execute_command(command, *text.split())


MODEL, SCRIPTED = (
    "|> AI.MODELEXECUTE m INPUTS 2 x y OUTPUTS 1 z",
    "|> AI.SCRIPTEXECUTE s double INPUTS 1 z OUTPUTS 1 w",
)


def test_steps_one_after_the_other(client: Any) -> None:
    reply = dag(
        client,
        f"LOAD 1 x PERSIST 2 w y |> AI.TENSORSET y FLOAT 2 VALUES 10 20 {MODEL} {SCRIPTED} "
        "|> AI.TENSORGET w VALUES |> AI.TENSORGET z META |> AI.TENSORGET x BLOB",
    )
    assert reply[:4] == [b"OK", b"OK", b"OK", [b"22", b"44"]]
    assert reply[4] == [b"dtype", b"FLOAT", b"shape", [2]]
    assert len(reply[5]) == 8
    assert client.execute_command("AI.TENSORGET", "w", "VALUES") == [b"22", b"44"]
    assert client.execute_command("AI.TENSORGET", "y", "VALUES") == [b"10", b"20"]
    assert client.exists("z") == 0
    client.delete("w", "y")


def test_a_name_may_be_set_again(client: Any) -> None:
    steps = "|> AI.TENSORSET t INT64 1 VALUES 1 |> AI.TENSORGET t VALUES "
    steps += "|> AI.TENSORSET t STRING 2 |> AI.TENSORGET t"
    assert dag(client, f"ROUTING t {steps}") == [
        b"OK",
        [1],
        b"OK",
        [b"dtype", b"STRING", b"shape", [2], b"blob", b"\0\0"],
    ]


@pytest.mark.parametrize("type_name", ["DOUBLE", "FLOAT"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_numbers_are_written_as_the_server_does(shard: RedisServer, protocol: int, type_name: str) -> None:
    numbers = ["0.1", "-0", "1e30", "inf", "-inf", "3", "1e-9", "123456789.125"]
    with shard.client(protocol=protocol) as client:
        client.execute_command("AI.TENSORSET", "d", type_name, len(numbers), "VALUES", *numbers)
        (reply,) = dag(client, "LOAD 1 d |> AI.TENSORGET d VALUES")
        assert reply == client.execute_command("AI.TENSORGET", "d", "VALUES")
        assert {type(one) for one in reply} == {bytes if protocol == 2 else float}


def test_a_step_that_fails_has_its_error_in_its_place(client: Any) -> None:
    reply = dag(
        client,
        f"LOAD 1 x PERSIST 1 y |> AI.TENSORSET y FLOAT 2 3 {MODEL} {SCRIPTED} |> AI.TENSORGET y VALUES "
        "|> AI.TENSORGET w VALUES |> AI.TENSORSET v FLOAT 1 |> AI.TENSORGET v VALUES",
    )
    assert isinstance(reply[1], ResponseError)
    assert "size" in str(reply[1])
    assert [reply[0], *reply[2:]] == [b"OK", b"NA", [b"0"] * 6, b"NA", b"OK", [b"0"]]
    assert client.exists("y") == 0  # nothing is kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing arguments for 'AI.DAGEXECUTE' command"),
        ("ROUTING x LOAD 2 x", "number of keys to LOAD into DAG does not match"),
        ("PERSIST 2 a b LOAD 1", "missing arguments after LOAD"),
        ("LOAD no |> AI.TENSORGET x VALUES", "found in number of keys to LOAD"),
        ("ROUTING x LOAD 1 none", "tensor key is empty or in a different shard"),
        ("ROUTING x LOAD 1 s", "WRONGTYPE"),
        ("ROUTING x LOAD 1 x PERSIST 1", "missing arguments after PERSIST"),
        ("ROUTING x PERSIST no x", "found in number of keys to PERSIST"),
        ("ROUTING x PERSIST 2 x", "number of keys to PERSIST after DAG execution"),
        ("PERSIST 3 a b c ROUTING", "Missing ROUTING value"),
        ("ROUTING x PERSIST 1 a TIMEOUT", "No value provided for TIMEOUT"),
        ("ROUTING x PERSIST 1 a TIMEOUT no", "Invalid value for TIMEOUT"),
        ("ROUTING x PERSIST 1 a FLY", "Unexpected argument:  FLY"),
        ("|> AI.TENSORSET a FLOAT 1 VALUES 5", "must contain at least one out of ROUTING, LOAD, PERSIST"),
        ("ROUTING x LOAD 1 x", "DAG is empty"),
        ("ROUTING x |> AI.FLY a b c", "Unsupported command within DAG"),
        ("ROUTING x |> |> AI.TENSORGET x", "Unsupported command within DAG"),
        ("LOAD 1 x |> AI.MODELRUN m INPUTS x x OUTPUTS y", "Deprecated AI.MODELRUN cannot be used"),
        ("LOAD 1 x |> AI.SCRIPTRUN old double INPUTS x OUTPUTS y", "Deprecated AI.SCRIPTRUN cannot be used"),
        ("ROUTING x |> AI.TENSORSET x FLOAT 1 |> AI.TENSORGET", "arguments for 'AI.TENSORGET' command"),
        ("ROUTING x |> AI.TENSORGET x META BLOB a", "wrong number of arguments for 'AI.TENSORGET'"),
        ("ROUTING x |> AI.TENSORSET x FLOAT", "wrong number of arguments for 'AI.TENSORSET' command"),
        ("ROUTING x |> AI.TENSORGET x VALUES", "INPUT key cannot be found in DAG"),
        ("LOAD 1 x PERSIST 1 y |> AI.TENSORGET x VALUES", "PERSIST key cannot be found in DAG"),
        ("LOAD 1 x PERSIST 2 x x |> AI.TENSORGET x VALUES", "PERSIST keys must be unique"),
        (
            "LOAD 1 x |> AI.MODELEXECUTE m INPUTS 1 x OUTPUTS 1 y",
            "INPUTS here does not match model definition",
        ),
        ("LOAD 1 x |> AI.MODELEXECUTE m INPUTS 2 x x OUTPUTS 1 y TIMEOUT 5", "TIMEOUT not allowed within"),
        ("LOAD 1 x |> AI.MODELEXECUTE none INPUTS 2 x x OUTPUTS 1 y", "model key is empty"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(client: Any, text: str, message: str) -> None:
    with pytest.raises(ResponseError, match=message):
        dag(client, text)


def test_read_only(client: Any) -> None:
    ro = "AI.DAGEXECUTE_RO"
    assert dag(client, "LOAD 1 x |> AI.TENSORGET x VALUES", ro) == [[b"1", b"2"]]
    with pytest.raises(ResponseError, match="PERSIST cannot be specified in a read-only DAG"):
        dag(client, "PERSIST 1 a |> AI.TENSORSET a FLOAT 1", ro)
    with pytest.raises(
        ResponseError, match=r"AI.SCRIPTEXECUTE command cannot be specified in a read-only DAG"
    ):
        dag(client, "LOAD 1 x |> AI.SCRIPTEXECUTE s double INPUTS 1 x OUTPUTS 1 y", ro)


def test_the_elder_commands(client: Any) -> None:
    run = "|> AI.MODELRUN m INPUTS x x OUTPUTS y |> AI.SCRIPTRUN old double INPUTS y OUTPUTS z"
    run += " |> AI.TENSORGET z VALUES"
    for command in ("AI.DAGRUN", "AI.DAGRUN_RO"):
        assert dag(client, f"LOAD 1 x {run}", command) == [b"OK", b"OK", [b"4", b"8"]]
        assert dag(client, "|> AI.TENSORSET a INT8 1 |> AI.TENSORGET a VALUES", command) == [b"OK", [0]]
        for word in ("MODELEXECUTE", "SCRIPTEXECUTE"):
            with pytest.raises(ResponseError, match=f"AI.{word} cannot be used in a deprecated AI.DAGRUN"):
                dag(client, f"LOAD 1 x |> AI.{word} m double INPUTS 1 x", command)
    writes = "LOAD 1 x |> AI.SCRIPTRUN old write INPUTS x OUTPUTS y"
    (refused,) = dag(client, writes, "AI.DAGRUN_RO")
    assert "cannot be used in a read-only DAG" in str(refused)
    assert client.exists("written") == 0
    assert dag(client, writes, "AI.DAGRUN") == [b"OK"]
    assert client.get("written") == b"x"


def test_a_script_gets_keys_and_arguments(client: Any) -> None:
    assert dag(client, "ROUTING k |> AI.SCRIPTEXECUTE s write KEYS 1 k ARGS 1 hello") == [b"OK"]
    assert client.get("k") == b"hello"


def test_strings_and_sequences_of_onnx(client: Any) -> None:
    client.execute_command("AI.MODELSTORE", "same", "ONNX", "CPU", "BLOB", identity_of_strings())
    client.execute_command("AI.MODELSTORE", "both", "ONNX", "CPU", "BLOB", sequence_of_two())
    texts = ("a", "b\xe9", "", "d")
    order = ("AI.TENSORSET", "t", "STRING", 2, 2, "VALUES", *texts)
    run = ("AI.MODELEXECUTE", "same", "INPUTS", 1, "t", "OUTPUTS", 1, "u")
    reply = client.execute_command(
        "AI.DAGEXECUTE", "ROUTING", "t", "|>", *order, "|>", *run, "|>", "AI.TENSORGET", "u", "VALUES"
    )
    assert reply == [b"OK", b"OK", [text.encode() for text in texts]]
    client.execute_command(*order)
    client.execute_command(*run)
    assert client.execute_command("AI.TENSORGET", "u") == client.execute_command("AI.TENSORGET", "t")
    client.execute_command("AI.MODELEXECUTE", "both", "INPUTS", 2, "x", "x", "OUTPUTS", 1, "o")
    assert client.execute_command("AI.TENSORGET", "o", "META", "VALUES")[3:] == [
        *([2, 2], b"values", [b"1", b"2", b"1", b"2"])
    ]


FUNCTIONS = """
import redisAI

async def script(record):
    call = redisAI.createScriptRunner('s', 'double')
    redisAI.scriptRunnerAddInput(call, redisAI.getTensorFromKey('x'))
    redisAI.scriptRunnerAddOutput(call)
    (result,) = await redisAI.scriptRunnerRunAsync(call)
    override_reply([str(redisAI.tensorToFlatList(result))])

def script_sync(record):
    call = redisAI.createScriptRunner('rest', 'rest')
    x = redisAI.getTensorFromKey('x')
    redisAI.scriptRunnerAddInput(call, x)
    redisAI.scriptRunnerAddInputList(call, [x, x])
    redisAI.scriptRunnerAddOutput(call)
    override_reply([str(redisAI.tensorToFlatList(redisAI.scriptRunnerRun(call)[0]))])

async def dag(record):
    x = redisAI.getTensorFromKey('x')
    dag = redisAI.createDAGRunner().Input('a', x).TensorSet('b', x)
    dag.ModelRun(name='m', inputs=['a', 'b'], outputs=['c'])
    dag.ScriptRun(name='s', func='double', inputs=['c'], outputs=['d']).TensorGet('d')
    dag.OpsFromString('|> AI.MODELEXECUTE m INPUTS 2 d a OUTPUTS 1 e |> AI.TENSORGET e')
    override_reply([str(redisAI.tensorToFlatList(t)) for t in await dag.Run()])

async def dag_fails(record):
    dag = redisAI.createDAGRunner().Input('a', redisAI.getTensorFromKey('x'))
    dag.ScriptRun(name='s', func='absent', inputs=['a'], outputs=['c']).TensorGet('c')
    try:
        await dag.Run()
    except Exception as error:
        override_reply([str(error)])

for function in (script, script_sync, dag, dag_fails):
    how = dict(eventTypes=['keymiss'], commands=['get'], mode='async_local')
    GB().map(function).register(function.__name__ + ':', **how)
"""


def test_functions_call_scripts_and_dags(client: Any) -> None:
    rest = "def rest(a, others: List[Tensor]):\n    return a + others[0] + others[1]\n"
    client.execute_command("AI.SCRIPTSET", "rest", "CPU", "SOURCE", rest)
    assert client.execute_command("RG.PYEXECUTE", FUNCTIONS) == b"OK"
    assert client.get("script:") == [b"[2.0, 4.0]"]
    assert client.get("script_sync:") == [b"[3.0, 6.0]"]
    assert client.get("dag:") == [b"[4.0, 8.0]", b"[5.0, 10.0]"]
    assert client.get("dag_fails:") == [b"Function does not exist: absent"]
