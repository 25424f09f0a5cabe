"""COMMAND DOCS, redis-cli and ACLs know every command of the module: its purpose, arguments and keys."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.patience import patient
from tests.servers import RedisServer

DOCS = Path(__file__).resolve().parents[2] / "docs/commands.md"
Argument = dict[str, Any]

KEYS = [
    ("KM.MISS", "read"),
    ("KM.MISS", "read", "REQUEST", "me"),
    ("KM.MGET", "read"),
    ("KM.MGET", "read", "read"),
    ("KM.HOOK", "SET", "write", "x"),
    ("KM.HOOKREAD", "MGET", "read", "read"),
    ("RG.TRIGGERONKEY", "mine", "write", "x"),
    ("KM.DERIVE", 1, "read", "write"),
    ("KM.DERIVE", 2, "read", "read", "write", "write"),
    ("KM.DERIVE", "MODELS", 1, "model", 0, "write"),
    ("KM.DERIVE", "MODELS", 2, "model", "model", 1, "read", "write", "write"),
    ("KM.MODELPART", "write", "x"),
    ("KM.MODELPUT", "write", "write", "TORCH", "CPU"),
    ("AI.TENSORSET", "write", "FLOAT", 1),
    ("AI.TENSORGET", "read", "VALUES"),
    ("AI.MODELSTORE", "write", "TORCH", "CPU", "BLOB", "x"),
    ("AI.MODELSET", "write", "TORCH", "CPU", "BLOB", "x"),
    ("AI.MODELGET", "read"),
    ("AI.MODELDEL", "write"),
    ("AI.MODELEXECUTE", "read", "INPUTS", 1, "read", "OUTPUTS", 1, "write"),
    ("AI.MODELEXECUTE", "read", "INPUTS", 2, "read", "read", "OUTPUTS", 2, "write", "write", "TIMEOUT", 9),
    ("AI.INFO", "read"),
    ("AI.MODELRUN", "read", "INPUTS", "read", "read", "OUTPUTS", "write"),
    ("AI.MODELRUN", "read", "TIMEOUT", 9, "INPUTS", "read", "OUTPUTS", "write", "write"),
    ("AI.SCRIPTSTORE", "write", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", "x"),
    ("AI.SCRIPTSET", "write", "CPU", "SOURCE", "x"),
    ("AI.SCRIPTGET", "read"),
    ("AI.SCRIPTDEL", "write"),
    ("AI.SCRIPTEXECUTE", "read", "f", "INPUTS", 1, "read", "ARGS", 1, "x", "OUTPUTS", 1, "write"),
    ("AI.SCRIPTEXECUTE", "read", "f", "OUTPUTS", 2, "write", "write", "TIMEOUT", 9),
    ("AI.SCRIPTRUN", "read", "f", "INPUTS", "read", "$", "read", "OUTPUTS", "write"),
    ("AI.DAGEXECUTE", "LOAD", 1, "read", "PERSIST", 1, "write", "|>", "AI.MODELEXECUTE", "read", "INPUTS", 1),
    ("AI.DAGEXECUTE", "PERSIST", 2, "write", "write", "|>", "AI.SCRIPTEXECUTE", "read", "f"),
    ("AI.DAGEXECUTE_RO", "LOAD", 2, "read", "read", "|>", "AI.TENSORGET", "x"),
    ("AI.DAGRUN", "LOAD", 1, "read", "|>", "AI.MODELRUN", "read", "INPUTS", "x", "OUTPUTS", "y"),
    ("AI.DAGRUN_RO", "LOAD", 1, "read", "|>", "AI.SCRIPTRUN", "read", "f"),
    ("KM.LOOKED", "write", 1, 0, 0),
    ("KM.MODELNAMES", "write", "*", 0, 0),
    ("KM.SCRIPTINFO", "read"),
]
"""Every command with keys; a key's name is what one has to be allowed to do with it."""


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with RedisServer() as server, server.client(decode_responses=True, protocol=2) as connected:
        connected.execute_command("ACL SETUSER", "reader", "on", ">reader", "%R~read*", "%W~write*", "+@all")
        yield connected


def command(client: redis.Redis, *words: object) -> Any:
    """The reply of COMMAND <words> as the server gives it."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("COMMAND", *words)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


@pytest.fixture(scope="module")
def names(client: redis.Redis) -> list[str]:
    found = sorted(name.lower() for name in command(client, "LIST", "FILTERBY", "MODULE", "keymiss"))
    assert {"km.miss", "km.pull", "rg.pyexecute", "ai.modelexecute"} <= set(found)
    return found


def as_dict(flat: list[Any]) -> dict[str, Any]:
    """What RESP2 gives as a list of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def argument(flat: list[Any]) -> Argument:
    told = as_dict(flat)
    return told | {"arguments": [argument(part) for part in told.get("arguments", ())]}


def docs(client: redis.Redis, name: str) -> dict[str, Any]:
    return argument(command(client, "DOCS", name)[1])


def arity(client: redis.Redis, name: str) -> int:
    return int(command(client, "INFO", name)[0][1])


def syntax(one: Argument) -> str:
    """As docs/commands.md writes it."""
    flags = one.get("flags", ())
    text = (" | " if one["type"] == "oneof" else " ").join(map(syntax, one["arguments"])) or one["name"]
    if "multiple" in flags:
        text = f"{text} [{text} ...]"
    if "token" in one:
        text = one["token"] if one["type"] == "pure-token" else f"{one['token']} {text}"
    return f"[{text}]" if "optional" in flags else text


def test_every_command_says_what_it_is_for(client: redis.Redis, names: list[str]) -> None:
    for name in names:
        told = docs(client, name)
        assert told["summary"].endswith("."), name
        assert told["complexity"].startswith("O("), name
        assert told["since"], name


def test_every_command_has_the_arguments_that_it_takes(client: redis.Redis, names: list[str]) -> None:
    without = [name for name in names if not docs(client, name)["arguments"]]
    assert without == [name for name in names if arity(client, name) == 1]
    assert {"ai._modelscan", "ai._scriptscan", "km.models", "km.stats", "rg.dumpregistrations"} < set(without)


def test_the_documentation_says_the_same(client: redis.Redis, names: list[str]) -> None:
    headings = re.findall(r"^### ((?:KM|RG|AI)\..+)$", DOCS.read_text(), re.M)
    described = [" ".join([name.upper(), *map(syntax, docs(client, name)["arguments"])]) for name in names]
    assert sorted(described) == sorted(headings)


def test_arity_is_the_servers_to_check(client: redis.Redis, names: list[str]) -> None:
    """So that a wrong number ends a transaction when it is queued, not when it runs. (Of a DAG that is too
    short RedisAI says something else.)"""
    for name in names:
        if name.startswith("ai.dagexecute"):
            continue
        words = abs(arity(client, name)) - 1  # behind the name
        if arity(client, name) == -1:  # any number is right
            continue
        with client.pipeline() as pipe:
            pipe.execute_command(name, *["1"] * (words - 1 if words else 1))
            with pytest.raises(redis.exceptions.ResponseError, match="wrong number of arguments"):
                pipe.execute()


def test_redis_cli_shows_it(client: redis.Redis) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    shown = subprocess.run(
        ["redis-cli", "-p", str(port)],
        input="help ai.modelexecute\n",
        capture_output=True,
        text=True,
        timeout=patient(30),
        check=True,
    ).stdout
    plain = re.sub(r"\x1b\[\d+m", "", shown)
    assert "AI.MODELEXECUTE key INPUTS n key [key ...] OUTPUTS n key [key ...] [TIMEOUT ms]" in plain


def may(client: redis.Redis, user: str, *words: object) -> bool:
    reply = client.execute_command("ACL", "DRYRUN", user, *words)
    assert reply == "OK" or "permission" in reply
    return reply == "OK"


def test_every_command_with_keys_is_in_the_table(client: redis.Redis, names: list[str]) -> None:
    assert [name.upper() for name in names if command(client, "INFO", name)[0][8]] == sorted(
        {c[0] for c in KEYS}
    )


@pytest.mark.parametrize("words", KEYS, ids=lambda words: f"{words[0]}-{len(words)}")
def test_keys_and_what_is_done_with_them(client: redis.Redis, words: tuple[object, ...]) -> None:
    """`%R~` is enough for a key that is read and `%W~` for one that is written, and neither for the other."""
    assert may(client, "reader", *words)
    keys = [i for i, word in enumerate(words) if word in ("read", "write")]
    for i in keys:
        for name in ("write" if words[i] == "read" else "read", "other"):
            assert not may(client, "reader", *words[:i], name, *words[i + 1 :]), (i, name)
    assert command(client, "GETKEYS", *words) == [words[i] for i in keys]


def test_what_keys_of_many_slots_are_asked_is_checked_for_each(client: redis.Redis) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port, username="reader", password="reader", decode_responses=True) as user:
        assert user.execute_command("KM.MISSES", 2, "read", "read:2") == [[0, None]] * 2
        with pytest.raises(redis.exceptions.NoPermissionError):
            user.execute_command("KM.MISSES", 2, "read", "write")


def test_a_key_named_as_a_word_hides_no_other(client: redis.Redis) -> None:
    """The OUTPUTS that is an input must not be taken for the word before what is written."""
    client.execute_command("ACL SETUSER", "writer", "on", "%R~*", "%W~OUTPUTS", "+@all")
    hidden = ("AI.MODELEXECUTE", "m", "INPUTS", 3, "x", "OUTPUTS", "1", "OUTPUTS", 1)
    assert may(client, "writer", *hidden, "OUTPUTS")
    assert not may(client, "writer", *hidden, "secret")


@pytest.mark.parametrize("count", [2**31 - 1, 2**31, 2**63 - 1, -1, 0, 65, "x"])
def test_a_count_that_lies(client: redis.Redis, count: object) -> None:
    """Neither the server nor its memory goes, though it looks for the keys before the command is called."""
    port = client.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port, username="reader", password="reader", socket_timeout=patient(30)) as user:
        for words in (
            ("KM.DERIVE", count, "read", "write"),
            ("AI.MODELEXECUTE", "read", "INPUTS", count, "read", "OUTPUTS", 1, "write"),
            ("AI.MODELEXECUTE", "read", "INPUTS", 1, "read", "OUTPUTS", count, "write"),
            ("AI.MODELEXECUTE", "read", "a", "b", "c", "d", "e", "OUTPUTS"),
            ("AI.SCRIPTEXECUTE", "read", "f", "KEYS", count, "read", "INPUTS", count, "read"),
            ("AI.DAGEXECUTE", "LOAD", count, "read", "PERSIST", count, "write", "|>", "AI.TENSORGET", "x"),
        ):
            with pytest.raises(
                redis.exceptions.ResponseError, match=r"numsources|key is empty|number of keys to LOAD"
            ):
                user.execute_command(*words)
        assert user.ping()
