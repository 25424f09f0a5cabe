"""AI.SCRIPTEXECUTE and AI.SCRIPTRUN: what functions are given, give back, and may ask of the shard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.cluster.torch_models import Adds, torch_blob
from tests.servers import RedisServer, WorkerProcess

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

HEAD = "(tensors: List[Tensor], keys: List[str], args: List[str]):\n    "
NEW = {
    "adds": "return tensors[0] + tensors[1]",
    "pair": "return tensors[0], tensors[0] * 2",
    "listed": "return [t * 3 for t in tensors]",
    "says_nothing": "redis.execute('SET', keys[0], args[0])",
    "no_tensor": "return 5",
    "fails": "return tensors[7]",
    "scalar": "return torch.tensor(int(args[0]))",
    "sends_list": "redis.execute('RPUSH', [keys[0], 'a', 'b'])",
    "reads_list": "return torch.tensor(len(redis.asList(redis.execute('LRANGE', keys[0], '0', '-1'))))",
    "mixed": "return torch.tensor(len(redis.asList(redis.execute('MGET', keys[0], 'no{such}'))))",
    "counts": "return torch.tensor(int(str(redis.execute('INCR', keys[0]))))",
    "no_list": "return torch.tensor(len(redis.asList(redis.execute('GET', keys[0]))))",
    "sends": "redis.execute(args[0], args[1:])",
    "model": "return redisAI.model_execute(keys[0], [tensors[0], tensors[1]], 1)",
    "model_bad": "return redisAI.model_execute(keys[0], [tensors[0]], 1)",
    "loops": "n = 0\n    for i in range(40000000):\n        n += 1\n    return torch.tensor(n)",
}
SOURCE = "\n".join(f"def {name}{HEAD}{body}\n" for name, body in NEW.items())
OLD = """
def one(a):
    return a * 2

def rest(a, others: List[Tensor]):
    return a + others[0] + others[1]

def wrong(a: str):
    return torch.tensor(1)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with RedisServer() as server, WorkerProcess(server), server.client() as connected:
        execute = connected.execute_command
        execute("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", len(NEW), *NEW, "SOURCE", SOURCE)
        execute("AI.SCRIPTSET", "old", "CPU", "SOURCE", OLD)
        execute("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", torch_blob(Adds()))
        execute("AI.TENSORSET", "a", "FLOAT", 2, "VALUES", 1, 2)
        execute("AI.TENSORSET", "b", "FLOAT", 2, "VALUES", 10, 20)
        yield connected


def values(client: Any, key: str) -> list[float]:
    return [float(value) for value in client.execute_command("AI.TENSORGET", key, "VALUES")]


def call(client: Any, name: str, *parts: object) -> Any:
    return client.execute_command("AI.SCRIPTEXECUTE", "s", name, *parts)


TWO = ("INPUTS", 2, "a", "b")


def test_tensors_in_and_out(client: Any) -> None:
    assert call(client, "adds", *TWO, "OUTPUTS", 1, "o") == b"OK"
    assert values(client, "o") == [11, 22]
    call(client, "pair", *TWO, "OUTPUTS", 2, "o", "p")
    assert (values(client, "o"), values(client, "p")) == ([1, 2], [2, 4])
    call(client, "listed", *TWO, "OUTPUTS", 2, "o", "p")
    assert (values(client, "o"), values(client, "p")) == ([3, 6], [30, 60])
    call(client, "scalar", "KEYS", 1, "k", "ARGS", 1, "42", "OUTPUTS", 1, "o")
    assert client.execute_command("AI.TENSORGET", "o", "META", "VALUES")[3:] == [[], b"values", [42]]


def test_what_is_wrong_is_said(client: Any) -> None:
    for name, parts, message in (
        ("pair", (*TWO, "OUTPUTS", 1, "o"), "the script has 2 outputs, 1 were asked for"),
        ("no_tensor", (*TWO, "OUTPUTS", 1, "o"), "not tensors"),
        ("fails", (*TWO, "OUTPUTS", 1, "o"), "list index out of range|IndexError"),
        ("absent", (*TWO, "OUTPUTS", 1, "o"), "Function does not exist: absent"),
        ("adds", ("OUTPUTS", 1, "o"), "KEYS or INPUTS scope must be provided first"),
        ("adds", ("KEYS", 1), "Missing arguments after KEYS keyword"),
        ("adds", ("KEYS", "x", "k"), "Invalid or negative value found in number of KEYS"),
        ("adds", ("KEYS", 2, "k"), "Number of pre declared KEYS"),
        ("adds", ("KEYS", 1, "k", "ARGS"), "Invalid arguments provided to AI.SCRIPTEXECUTE"),
        ("adds", ("INPUTS", "x", "a"), "Invalid argument for inputs count"),
        ("adds", ("INPUTS", 3, "a"), "number of inputs to AI.SCRIPTEXECUTE"),
        ("adds", (*TWO, "INPUTS", 1, "a"), "Already Encountered INPUTS"),
        ("adds", (*TWO, "FLY"), "Unexpected argument: FLY"),
        ("adds", (*TWO, "TIMEOUT"), "No value provided for TIMEOUT"),
        ("adds", (*TWO, "TIMEOUT", 0), "Invalid value for TIMEOUT"),
        ("adds", ("INPUTS", 2, "a", "none"), "tensor key is empty or in a different shard"),
        ("adds", ("INPUTS", 2, "a", "s"), "WRONGTYPE"),
    ):
        with pytest.raises(ResponseError, match=message) as refused:
            call(client, name, *parts)
        assert "FAILED" not in str(refused.value)
    with pytest.raises(ResponseError, match="script key is empty"):
        client.execute_command("AI.SCRIPTEXECUTE", "none", "f", *TWO)


def test_commands_on_the_shard(client: Any) -> None:
    assert call(client, "says_nothing", "KEYS", 1, "k", "ARGS", 1, "\xe9") == b"OK"
    assert client.get("k") == "\xe9".encode()
    client.delete("l", "n")
    call(client, "reads_list", "KEYS", 1, "l", "OUTPUTS", 1, "o")
    assert values(client, "o") == [0]
    call(client, "sends_list", "KEYS", 1, "l")
    call(client, "reads_list", "KEYS", 1, "l", "OUTPUTS", 1, "o")
    assert values(client, "o") == [2]
    call(client, "mixed", "KEYS", 1, "k", "OUTPUTS", 1, "o")
    assert values(client, "o") == [2]
    call(client, "counts", "KEYS", 1, "n", "OUTPUTS", 1, "o")
    call(client, "counts", "KEYS", 1, "n", "OUTPUTS", 1, "o")
    assert (client.get("n"), values(client, "o")) == (b"2", [2])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RPUSH", "k", "x"], "Redis command returned an error: WRONGTYPE"),
        (["SET", "k"], "Redis command returned an error: Invalid argument"),
        (["NOSUCH", "k"], "Redis command returned an error: Invalid argument"),
        (["CONFIG", "GET", "*"], "CONFIG is refused: it is a command that is admin"),
        (["SHUTDOWN"], "SHUTDOWN is refused"),
        (["MULTI"], "MULTI is refused"),
        (["SUBSCRIBE", "x"], "SUBSCRIBE is refused"),
        (["BLPOP", "x", "0"], "BLPOP is refused: it is a command that is blocking"),
        (["AI.MODELEXECUTE", "m"], "AI.MODELEXECUTE is refused: it may wait"),
        (["rg.pyexecute", "1"], "RG.PYEXECUTE is refused: it may wait"),
    ],
)
def test_commands_that_end_a_script(client: Any, words: list[str], message: str) -> None:
    client.set("k", "a string")
    with pytest.raises(ResponseError, match=message):
        call(client, "sends", "KEYS", 1, "k", "ARGS", len(words), *words)
    assert client.ping()


def test_a_reply_that_is_no_list(client: Any) -> None:
    client.set("k", "x")
    with pytest.raises(ResponseError, match=r"redis.asList: the reply is a str"):
        call(client, "no_list", "KEYS", 1, "k", "OUTPUTS", 1, "o")


def test_models_in_a_script(client: Any) -> None:
    client.execute_command("AI.INFO", "m", "RESETSTAT")
    call(client, "model", "KEYS", 1, "m", *TWO, "OUTPUTS", 1, "o")
    assert values(client, "o") == [11, 22]
    assert client.execute_command("AI.INFO", "m")[15] == 1
    with pytest.raises(ResponseError, match="ERR model key is empty"):
        call(client, "model", "KEYS", 1, "none", *TWO, "OUTPUTS", 1, "o")
    with pytest.raises(ResponseError, match="forward"):
        call(client, "model_bad", "KEYS", 1, "m", *TWO, "OUTPUTS", 1, "o")


def test_scripts_of_the_elder_command(client: Any) -> None:
    run = ("AI.SCRIPTRUN", "old")
    client.execute_command(*run, "one", "INPUTS", "a", "OUTPUTS", "o")
    assert values(client, "o") == [2, 4]
    client.execute_command(*run, "rest", "INPUTS", "a", "$", "b", "b", "OUTPUTS", "o")
    assert values(client, "o") == [21, 42]
    client.execute_command("AI.SCRIPTEXECUTE", "old", "rest", "INPUTS", 3, "a", "b", "b", "OUTPUTS", 1, "o")
    assert values(client, "o") == [21, 42]
    for name, parts, message in (
        ("one", ("INPUTS", "a", "b", "OUTPUTS", "o"), "Wrong number of inputs provided to function: one"),
        ("rest", ("INPUTS", "$", "a", "OUTPUTS", "o"), "Wrong number of inputs provided to function: rest"),
        ("wrong", ("INPUTS", "a", "OUTPUTS", "o"), "Unsupported input type in function definition: wrong"),
        ("one", ("INPUTS", "$", "a", "$", "b"), "Already encountered a variable size list"),
        ("one", ("$", "a"), "outside of input section"),
        ("one", ("INPUTS", "a", "INPUTS", "b"), "Already encountered an INPUTS"),
        ("one", ("OUTPUTS", "o", "OUTPUTS", "p"), "Already encountered an OUTPUTS"),
        ("one", ("a",), "Unrecongnized parameter"),
        ("one", ("TIMEOUT", "x", "INPUTS", "a"), "Invalid value for TIMEOUT"),
    ):
        with pytest.raises(ResponseError, match=message):
            client.execute_command(*run, name, *parts)


def test_what_runs_took_is_counted(client: Any) -> None:
    client.execute_command("AI.INFO", "s", "RESETSTAT")
    for _ in range(3):
        call(client, "adds", *TWO, "OUTPUTS", 1, "o")
    with pytest.raises(ResponseError):
        call(client, "fails", *TWO, "OUTPUTS", 1, "o")
    info = client.execute_command("AI.INFO", "s")
    told = dict(zip(info[::2], info[1::2], strict=True))
    assert (told[b"type"], told[b"backend"], told[b"samples"]) == (b"SCRIPT", b"TORCH", -1)
    assert (told[b"calls"], told[b"errors"]) == (4, 1)
    assert told[b"duration"] > 0
    client.execute_command("AI.INFO", "s", "RESETSTAT")
    assert client.execute_command("AI.INFO", "s")[11::2] == [0, -1, 0, 0]


def test_a_script_stored_again_takes_effect_at_once(client: Any) -> None:
    for factor in (2, 5):
        source = f"def f{HEAD}return tensors[0] * {factor}\n"
        client.execute_command("AI.SCRIPTSTORE", "again", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", source)
        client.execute_command("AI.SCRIPTEXECUTE", "again", "f", "INPUTS", 1, "a", "OUTPUTS", 1, "o")
        assert values(client, "o") == [factor, 2 * factor]


def test_its_time_is_over(client: Any) -> None:
    client.delete("late")
    assert call(client, "loops", "KEYS", 1, "k", "OUTPUTS", 1, "late", "TIMEOUT", 1) == b"TIMEDOUT"
    call(client, "adds", *TWO, "OUTPUTS", 1, "o")
    assert client.exists("late") == 0


def test_scans(client: Any) -> None:
    client.execute_command("AI.MODELSTORE", "tagged", "TORCH", "CPU", "TAG", "v1", "BLOB", torch_blob(Adds()))
    assert client.execute_command("AI._MODELSCAN") == [[b"m", b""], [b"tagged", b"v1"]]
    found = client.execute_command("AI._SCRIPTSCAN")
    assert [name for name, _ in found if name != b"again"] == [b"old", b"s"]
    client.delete("tagged")


def test_not_where_nobody_can_wait(client: Any) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("AI.SCRIPTEXECUTE", "s", "adds", *TWO)
        pipe.execute_command("AI.DAGEXECUTE", "ROUTING", "x", "|>", "AI.TENSORGET", "a")
        pipe.execute_command("AI._MODELSCAN")
        for reply in pipe.execute(raise_on_error=False):
            assert "within a transaction or a LUA script" in str(reply)
