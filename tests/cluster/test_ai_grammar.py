"""Commands made up from the grammar of AI.*, right and wrong, and workers that answer at random: no crash, no
hang, no leak. KEYMISS_TEST_GRAMMAR says how many commands."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.cluster import redisai_payloads as payloads
from tests.hand_worker import HandWorker
from tests.servers import RedisServer, keymiss_info, wait_until

COMMANDS = int(os.environ.get("KEYMISS_TEST_GRAMMAR", "6000"))

KEYS = ["a{1}", "b{1}", "m{1}", "s{1}", "none{1}", "string{1}"]
TYPES = ["FLOAT", "DOUBLE", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "BOOL", "STRING", "COMPLEX"]
NUMBERS = ["0", "1", "2", "3", "-1", "x", "64", "1025", str(2**31), str(2**63 - 1)]
WORDS = [
    "INPUTS",
    "OUTPUTS",
    "KEYS",
    "ARGS",
    "TIMEOUT",
    "|>",
    "$",
    "BLOB",
    "VALUES",
    "LOAD",
    "PERSIST",
    "ROUTING",
]

Words = list[Any]


class Grammar:
    """Each method gives the words of one command."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def maybe(self, make: Callable[[], Words], odds: float = 0.5) -> Words:
        return make() if self.rng.random() < odds else []

    def key(self) -> str:
        return self.rng.choice(KEYS)

    def number(self, right: int) -> Any:
        return right if self.rng.random() < 0.95 else self.rng.choice(NUMBERS)

    def names(self, most: int = 3) -> Words:
        return [self.key() for _ in range(self.rng.randrange(1, most + 1))]

    def counted(self, word: str, most: int = 3) -> Words:
        names = self.names(most)
        return [word, self.number(len(names)), *names]

    def timeout(self) -> Words:
        return ["TIMEOUT", self.number(self.rng.choice((1, 20)))]

    def dims(self) -> list[int]:
        return [self.rng.randrange(1, 4) for _ in range(self.rng.randrange(0, 3))]

    def tensorset(self) -> Words:
        rng, type_name, dims = self.rng, self.rng.choice(TYPES), self.dims()
        n = 1
        for dim in dims:
            n *= dim
        words: Words = ["AI.TENSORSET", self.key(), type_name, *map(self.number, dims)]
        size = {"FLOAT": 4, "DOUBLE": 8, "INT16": 2, "INT32": 4, "INT64": 8, "UINT16": 2}.get(type_name, 1)
        blob = b"ab\0" * n if type_name == "STRING" else bytes(n * size)
        value = "v" if type_name == "STRING" else rng.choice((0, 1, "1e3", "nan"))
        return words + rng.choice(([], ["BLOB", blob], ["VALUES", *[value] * n], ["BLOB", blob + b"x"]))

    def tensorget(self) -> Words:
        return [
            "AI.TENSORGET",
            self.key(),
            *self.rng.sample(["META", "BLOB", "VALUES"], self.rng.randrange(3)),
        ]

    def modelstore(self) -> Words:
        name = self.rng.choice(("AI.MODELSTORE", "AI.MODELSET"))
        words: Words = [name, self.key(), self.rng.choice(("TORCH", "ONNX", "TF", "TFLITE", "CAFFE")), "CPU"]
        words += self.maybe(lambda: ["TAG", "t"])
        words += self.maybe(lambda: ["BATCHSIZE", self.number(4)])
        words += self.maybe(lambda: ["MINBATCHSIZE", self.number(2)], 0.3)
        words += self.maybe(lambda: ["MINBATCHTIMEOUT", self.number(1)], 0.3)
        words += self.maybe(lambda: self.counted("INPUTS"), 0.2) + self.maybe(
            lambda: self.counted("OUTPUTS"), 0.2
        )
        return [*words, "BLOB", *[b"chunk"] * self.rng.randrange(0, 4)]

    def scriptstore(self) -> Words:
        if self.rng.random() < 0.5:
            return [
                "AI.SCRIPTSET",
                self.key(),
                "CPU",
                *self.maybe(lambda: ["TAG", "t"]),
                "SOURCE",
                "def f(a): ...",
            ]
        points = self.counted("ENTRY_POINTS")
        return [
            "AI.SCRIPTSTORE",
            self.key(),
            "CPU",
            *self.maybe(lambda: ["TAG", "t"]),
            *points,
            "SOURCE",
            "def f",
        ]

    def modelexecute(self) -> Words:
        return [
            "AI.MODELEXECUTE",
            "m{1}",
            *self.counted("INPUTS"),
            *self.counted("OUTPUTS"),
            *self.maybe(self.timeout),
        ]

    def modelrun(self) -> Words:
        words = ["AI.MODELRUN", self.key(), *self.maybe(self.timeout), "INPUTS", *self.names()]
        return [*words, "OUTPUTS", *self.names()]

    def scriptexecute(self) -> Words:
        parts = [
            self.counted(word) for word in ("KEYS", "INPUTS", "ARGS", "OUTPUTS") if self.rng.random() < 0.6
        ]
        self.rng.shuffle(parts)
        return [
            "AI.SCRIPTEXECUTE",
            "s{1}",
            "f",
            *(word for part in parts for word in part),
            *self.maybe(self.timeout),
        ]

    def scriptrun(self) -> Words:
        inputs = ["INPUTS", *self.names(), *self.maybe(lambda: ["$", *self.names()])]
        return [
            "AI.SCRIPTRUN",
            "s{1}",
            "f",
            *self.maybe(self.timeout, 0.3),
            *inputs,
            "OUTPUTS",
            *self.names(),
        ]

    def dag(self) -> Words:
        name = self.rng.choice(("AI.DAGEXECUTE", "AI.DAGEXECUTE_RO", "AI.DAGRUN", "AI.DAGRUN_RO"))
        words: Words = [
            name,
            *self.maybe(lambda: self.counted("LOAD"), 0.7),
            *self.maybe(lambda: ["ROUTING", "{1}"]),
        ]
        words += self.maybe(lambda: self.counted("PERSIST", 1), 0.4) + self.maybe(self.timeout, 0.4)
        steps = [
            self.tensorset,
            self.tensorget,
            self.modelexecute,
            self.scriptexecute,
            self.modelrun,
            self.scriptrun,
        ]
        for _ in range(self.rng.randrange(0, 5)):
            words += ["|>", *self.rng.choice(steps)()]
        return words

    def small(self) -> Words:
        rng = self.rng
        name = rng.choice(
            ("MODELGET", "MODELDEL", "SCRIPTGET", "SCRIPTDEL", "INFO", "CONFIG", "_MODELSCAN", "_SCRIPTSCAN")
        )
        if name.startswith("_"):
            return [f"AI.{name}"]
        if name == "CONFIG":
            return [
                "AI.CONFIG",
                rng.choice(("GET", "MODEL_CHUNK_SIZE", "LOADBACKEND")),
                *self.maybe(lambda: [self.number(3)]),
            ]
        return [
            f"AI.{name}",
            self.key(),
            *self.maybe(lambda: [rng.choice(("META", "BLOB", "SOURCE", "RESETSTAT"))]),
        ]

    def restore(self) -> Words:
        rng, encoding = self.rng, self.rng.randrange(5)
        payload = rng.choice(
            (
                payloads.tensor(encoding, 0, 32, [2], bytes(8)),
                payloads.model(encoding, "TORCH", b"blob", names=([b"x"], [])),
                payloads.script(encoding, b"def f(a): ...", [b"f"]),
            )
        )
        return ["RESTORE", self.key(), 0, payload, "REPLACE"]

    def command(self) -> Words:
        """One of them, now and then with a word too many, too few, or another."""
        makers = [
            self.tensorset,
            self.tensorget,
            self.modelstore,
            self.scriptstore,
            self.modelexecute,
            self.modelrun,
        ]
        makers += [self.scriptexecute, self.scriptrun, self.dag, self.dag, self.small, self.restore]
        words = self.rng.choice(makers)()
        while self.rng.random() < 0.25 and len(words) > 1:
            at = self.rng.randrange(1, len(words))
            kind = self.rng.randrange(3)
            if kind == 0:
                del words[at]
            elif kind == 1:
                words.insert(at, self.rng.choice(WORDS + NUMBERS))
            else:
                words[at] = self.rng.choice([*WORDS, *NUMBERS, *KEYS, b"\xff\x00", ""])
        return words


ANSWERS = [b"+OK\r\n", b"$-1\r\n", b":1\r\n", b"*2\r\n+OK\r\n*0\r\n", b"-ERR no\r\n"]


def answer_at_random(
    server: RedisServer, stop: threading.Event, seed: int, failures: list[Exception]
) -> None:
    """A worker that looks, and sometimes dies."""
    rng = random.Random(seed)
    try:
        while not stop.is_set():
            worker = HandWorker(server, attach=False)
            while not stop.is_set() and rng.random() > 0.002:
                reply = worker.client.execute_command("KM.PULL", "random", 8, 20, "LOOKS") or []
                for row in reply:
                    one_answer(worker, rng, row[0], row[1], row[8])
            worker.die()
    except Exception as error:
        failures.append(error)


def one_answer(
    worker: HandWorker, rng: random.Random, number: int, kind: bytes, payload: list[bytes]
) -> None:
    execute = worker.client.execute_command
    what = rng.randrange(10)
    try:
        if kind == b"look" and what < 6:
            execute("KM.CANDIDATE", number, rng.randrange(20), rng.randrange(20)) if what < 3 else None
            execute("KM.LOOKED", payload[1], number, 1, "x", rng.randrange(2), *["y"] * rng.randrange(2))
        elif what < 8:
            execute("KM.DONE", number, rng.choice(ANSWERS))
        elif what == 8:
            execute("KM.FAIL", number, "no luck", *(["PLAIN"] if rng.random() < 0.5 else []))
        else:
            execute("KM.GIVEBACK", number)
    except redis.ResponseError:
        execute("KM.DONE", number, b"+OK\r\n")


def ask_beside_workers(server: RedisServer, ask: Callable[[int], None], failures: list[Exception]) -> None:
    """Runs `ask` four times at once, each with a seed of its own, while two workers answer at random."""
    stop = threading.Event()
    workers = [threading.Thread(target=answer_at_random, args=(server, stop, n, failures)) for n in range(2)]
    askers = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in (*workers, *askers):
        thread.start()
    for thread in askers:
        thread.join()
    stop.set()
    for thread in workers:
        thread.join()
    assert failures == []


def test_random_commands(server: RedisServer) -> None:
    client = server.client()
    client.config_set("keymiss.model-timeout-ms", 200)
    client.config_set("keymiss.noworker-grace-ms", 100)
    client.set("string{1}", "x")
    failures, counts = list[Exception](), {"ok": 0, "error": 0}

    def ask(seed: int) -> None:
        grammar = Grammar(random.Random(seed))
        mine = server.client()
        try:
            for _ in range(COMMANDS // 4):
                try:
                    mine.execute_command(*grammar.command())
                    counts["ok"] += 1
                except redis.ResponseError:
                    counts["error"] += 1
        except Exception as error:
            failures.append(error)

    ask_beside_workers(server, ask, failures)
    assert counts["ok"] > COMMANDS // 10
    assert counts["error"] > COMMANDS // 10
    wait_until(lambda: keymiss_info(client)["clients_waiting"] == 0, 10)
    client.flushall()
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 10, "all is freed")
    assert server.alive


@pytest.mark.parametrize("seed", range(3))
def test_random_commands_in_a_transaction_and_in_a_script(server: RedisServer, seed: int) -> None:
    client, grammar = server.client(), Grammar(random.Random(100 + seed))
    script = "return redis.pcall(unpack(ARGV))"
    for _ in range(COMMANDS // 60):
        with client.pipeline(transaction=True) as pipe:
            for _ in range(5):
                pipe.execute_command(*grammar.command())
            try:
                pipe.execute(raise_on_error=False)
            except redis.ResponseError as error:
                assert "EXECABORT" in str(error) or "Command #" in str(error)  # noqa: PT017
        try:
            client.eval(script, 0, *grammar.command())
        except redis.ResponseError:
            continue
    client.flushall()
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 10, "all is freed")
    assert server.alive
