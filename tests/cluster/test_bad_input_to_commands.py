"""Wrong input to the module's own commands: an error reply that says what, and the server goes on."""

from __future__ import annotations

import random

import pytest
import redis

from tests.hand_worker import SHA1
from tests.servers import RedisServer

BAD = [
    (["KM.PULL"], "wrong number"),
    (["KM.PULL", "w", "0", "1"], "max must"),
    (["KM.PULL", "w", "x", "1"], "max must"),
    (["KM.PULL", "w", "1", "-1"], "block_ms"),
    (["KM.PULL", "w", "1", "1", "LOOK"], "syntax"),
    (["KM.DONE", "1"], "wrong number"),
    (["KM.DONE", "x", "+OK\r\n"], "whole number"),
    (["KM.DONE", "1", "+OK"], "RESP2"),
    (["KM.DONE", "1", "*2\r\n+a\r\n"], "RESP2"),
    (["KM.FAIL", "-1", "t"], "whole number"),
    (["KM.FAIL", "1", "t", "x"], "syntax"),
    (["KM.LOOKED", "k", "1", "1", "0"], "as many names"),
    (["KM.LOOKED", "k", "1", "-1", "0"], "as many names"),
    (["KM.LOOKED", "k", "1", "0", "0", "x"], "as many names"),
    (["KM.CANDIDATE", "1", "-1", "1"], "offset"),
    (["KM.CANDIDATE", "1", "0", "1"], "job is over"),
    (["KM.MODELNAMES", "k", "*", "1", "a", "1"], "as many names"),
    (["KM.SCRIPTINFO", "k"], "script key is empty"),
    (["AI._MODELSCAN", "x"], "wrong number"),
    (["KM.GIVEBACK"], "wrong number"),
    (["KM.ALIVE", "x"], "whole number"),
    (["KM.SCRIPT"], "wrong number"),
    (["KM.SCRIPT", "GET", "xyz"], "40 lower-case"),
    (["KM.SCRIPT", "FLY"], "syntax"),
    (["KM.SCRIPT", "SET", "A" * 40, "x"], "40 lower"),
    (["KM.REGISTER", "a"], "wrong number"),
    (["KM.REGISTER", "a", SHA1, "0", "r", "", "m", "p", "", "", ""], "unknown script"),
    (["KM.UNREGISTER", "a"], "unknown registration"),
    (["KM.MISS"], "wrong number"),
    (["KM.DERIVE", "1", "s"], "wrong number"),
    (["KM.DERIVE", "0", "s", "k"], "numsources"),
    (["KM.DERIVE", "2", "s", "k"], "at least one key"),
    (["RG.PYEXECUTE"], "wrong number"),
    (["RG.PYEXECUTE", "x", "FLY"], "unknown arguments"),
    (["RG.PYEXECUTE", "x", "ID"], "ID is missing"),
    (["RG.UNREGISTER"], "wrong number"),
    (["RG.DUMPREGISTRATIONS", "x"], "wrong number"),
    (["KM.STATS", "x"], "wrong number"),
    (["CONFIG", "SET", "keymiss.queue-limit", "0"], "queue-limit"),
    (["CONFIG", "SET", "keymiss.cache", "perhaps"], "cache"),
]


@pytest.fixture(scope="module")
def one_server():
    with RedisServer() as running:
        yield running


@pytest.mark.parametrize(
    ("command", "message"), BAD, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None
)
def test_an_error_that_says_what(one_server: RedisServer, command: list[str], message: str) -> None:
    client = one_server.client()
    with pytest.raises(redis.exceptions.ResponseError, match=f"(?i){message}"):
        client.execute_command(*command)
    assert client.ping()


def test_random_arguments_crash_nothing(one_server: RedisServer) -> None:
    rng = random.Random(7)
    client = one_server.client()
    names = [
        n for n in client.execute_command("COMMAND LIST", "FILTERBY", "MODULE", "keymiss") if n != b"km.pull"
    ]
    assert len(names) > 15
    words = [
        b"",
        b"0",
        b"-1",
        b"9" * 25,
        b"x",
        b"\xff\x00",
        b"{x}",
        b"FLOAT",
        b"INT64",
        b"BLOB",
        b"VALUES",
        b"META",
        b"TORCH",
        b"CPU",
        b"INPUTS",
        b"OUTPUTS",
        b"1",
        b"2",
        b"nan",
        b"a" * 5000,
        b"UNBLOCKING",
        b"SET",
        b"GET",
        b"STRING",
        b"BOOL",
        b"a\0b\0",
        b"ENTRY_POINTS",
        b"SOURCE",
        b"KEYS",
        b"ARGS",
        b"TIMEOUT",
        b"TAG",
        b"BATCHSIZE",
        b"MINBATCHSIZE",
        b"LOAD",
        b"PERSIST",
        b"ROUTING",
        b"|>",
        b"$",
        b"AI.TENSORSET",
        b"AI.TENSORGET",
        b"AI.MODELEXECUTE",
        b"AI.SCRIPTEXECUTE",
    ]
    client.config_set("keymiss.noworker-grace-ms", 0)
    errors = 0
    for _ in range(4000):
        command = [rng.choice(names)] + [rng.choice(words) for _ in range(rng.randrange(0, 12))]
        try:
            client.execute_command(*command)
        except redis.exceptions.ResponseError:
            errors += 1
    assert errors > 1000
    assert client.ping()
    assert one_server.alive
