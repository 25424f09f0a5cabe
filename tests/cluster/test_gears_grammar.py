"""Commands made up from what RG.* and KM.* say of their arguments (COMMAND DOCS), right and wrong; workers
that answer at random: no crash, no hang, no leak. KEYMISS_TEST_GRAMMAR says how many commands."""

from __future__ import annotations

import os
import random
from typing import Any

import redis

from tests.cluster.test_ai_grammar import ask_beside_workers
from tests.servers import RedisServer, keymiss_info, wait_until

COMMANDS = int(os.environ.get("KEYMISS_TEST_GRAMMAR", "6000"))
KEYS = ["doc:1", "doc:2{1}", "miss:1", "m{1}", "none"]
NUMBERS = [0, 1, 2, 3, 50, -1, 2**31, 2**63 - 1, "x"]
PREFIXES = ["doc:", "miss:", "*", ""]
ARGUMENTS: dict[str, list[Any]] = {
    "reader": ["KeysReader", "StreamReader", "CommandReader", "TimeEvent", "Reader"],
    "mode": ["async", "async_local", "sync", "mode"],
    "prefix": PREFIXES,
    "events": ["keymiss", "set,del", "catchup", ""],
    "event": ["keymiss", "set", "catchup", "xadd"],
    "keytypes": ["string", "hash,stream", ""],
    "commands": ["get", "get,mget", "set", ""],
    "block_ms": [0, 1, 5],  # a worker may wait as long as it says
    "looks": ["LOOKS"],
    "script": ["GB().run()", "x" * 70000, b"\xff\x00"],
    "name": ["random", "keymiss.miss-timeout-ms", "MaxExecutions", "trigger"],
}
"""What arguments of these names are made of; others by their type."""


class Grammar:
    """Words of commands. `known`: ids that servers and clients have told of."""

    def __init__(self, docs: dict[str, list[dict[str, Any]]], rng: random.Random, known: list[Any]) -> None:
        self.docs, self.rng, self.known = docs, rng, known

    def argument(self, spec: dict[str, Any]) -> list[Any]:
        rng, flags = self.rng, spec.get("flags", ())
        if "optional" in flags and rng.random() < 0.5:
            return []
        words: list[Any] = []
        for _ in range(rng.randrange(1, 4) if "multiple" in flags else 1):
            if spec.get("token") and (not words or "multiple_token" in flags):
                words.append(spec["token"])
            words += self.value(spec)
        return words

    def value(self, spec: dict[str, Any]) -> list[Any]:
        rng, kind = self.rng, spec["type"]
        if kind == "oneof":
            return self.argument(rng.choice(spec["arguments"]))
        if kind == "block":
            return [word for one in spec["arguments"] for word in self.argument(one)]
        if kind == "pure-token":
            return []
        if spec["name"] in ARGUMENTS and rng.random() < 0.9:
            return [rng.choice(ARGUMENTS[spec["name"]])]
        if kind == "key":
            return [rng.choice(KEYS)]
        if kind == "integer":
            return [rng.choice(self.known if rng.random() < 0.4 else NUMBERS)]
        return [rng.choice([*self.known[-40:], *KEYS, "x", "", b"\xff\x00"])]

    def command(self) -> list[Any]:
        """One of them, now and then with a word too many, too few, or another."""
        rng = self.rng
        name = rng.choice(list(self.docs))
        words = [name, *(word for spec in self.docs[name] for word in self.argument(spec))]
        while rng.random() < 0.15 and len(words) > 1 and name != "KM.PULL":
            at, kind = rng.randrange(1, len(words)), rng.randrange(3)
            if kind == 0:
                del words[at]
            else:
                words[at : at + kind - 1] = [rng.choice([*NUMBERS, *KEYS, ""])]
        return words


def documented(client: redis.Redis) -> dict[str, list[dict[str, Any]]]:
    """Command -> its arguments, of RG.* and KM.*."""
    names = [
        name.decode() for name in client.execute_command("COMMAND LIST", "FILTERBY", "MODULE", "keymiss")
    ]
    mine = [name for name in names if name.upper().startswith(("RG.", "KM."))]
    assert len(mine) > 50
    docs = {}
    for name in mine:
        _, about = client.execute_command("COMMAND DOCS", name)
        docs[name.upper()] = _specs(_pairs(about).get("arguments", []))
    return docs


def _pairs(flat: list[Any]) -> dict[str, Any]:
    return {key.decode(): value for key, value in zip(flat[::2], flat[1::2], strict=True)}


def _specs(listed: list[Any]) -> list[dict[str, Any]]:
    specs = []
    for one in map(_pairs, listed):
        spec = {key: one[key].decode() for key in ("name", "type", "token") if key in one}
        spec["flags"] = {flag.decode() for flag in one.get("flags", [])}
        spec["arguments"] = _specs(one.get("arguments", []))
        specs.append(spec)
    return specs


def remember(reply: Any, known: list[Any]) -> None:
    """Ids are among the texts and numbers of replies."""
    for one in reply if isinstance(reply, list) else [reply]:
        if isinstance(one, list):
            remember(one[:3], known)
        elif isinstance(one, int) or (isinstance(one, bytes) and 0 < len(one) < 64):
            known.append(one)
    del known[:-200]


def test_random_commands(server: RedisServer) -> None:
    client = server.client()
    for name in ("miss-timeout-ms", "model-timeout-ms", "script-timeout-ms", "noworker-grace-ms"):
        client.config_set(f"keymiss.{name}", 100)
    docs = documented(client)
    failures, counts = list[Exception](), {"ok": 0, "error": 0}
    known: list[Any] = ["a" * 40, 1]

    def ask(seed: int) -> None:
        grammar = Grammar(docs, random.Random(seed), known)
        mine = server.client()
        try:
            for _ in range(COMMANDS // 4):
                kind = grammar.rng.random()
                try:
                    if kind < 0.1:  # events, misses
                        key = grammar.rng.choice(KEYS)
                        words = grammar.rng.choice((("SET", key, "x"), ("GET", key), ("DEL", key)))
                        mine.execute_command(*words)
                    elif kind < 0.12:  # who it was for the module is forgotten
                        mine.connection_pool.disconnect()
                    else:
                        remember(mine.execute_command(*grammar.command()), known)
                    counts["ok"] += 1
                except redis.ResponseError:
                    counts["error"] += 1
        except Exception as error:
            failures.append(error)
        finally:
            mine.close()

    ask_beside_workers(server, ask, failures)
    assert server.alive
    assert counts["ok"] > COMMANDS // 10
    assert counts["error"] > COMMANDS // 10
    wait_until(lambda: keymiss_info(client)["clients_waiting"] == 0, 10, "no client waits")
    for row in client.execute_command("KM.REGISTRATIONS"):
        client.execute_command("KM.UNREGISTER", row[0])
    client.flushall()
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 10, "all is freed")
    assert keymiss_info(client)["registrations"] == 0
