"""A short benchmark of the running system, as a table.

    python scripts/benchmark.py --url https://localhost:8080 --question "..." --model models/reader

The question's answers are deleted before each uncached run; nothing else is changed. The baseline is
scripts/plain_bert_qa.py over the sentences that were read for it. Times of one machine: for comparison, not
for fame. The GETs are those of the user `default`, as the local system has it. With a user or a password in
the environment (KEYMISS_REDIS_PASSWORD) they are left out: redis-benchmark takes one on its command line
only, where others can read it.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import redis
import typer
from redis.cluster import RedisCluster
from rich.console import Console
from rich.table import Table

from keymiss import keys
from keymiss.addresses import Address
from keymiss.api.questions.question_in_key import question_in_key
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.topology import shard_of
from keymiss.local.cluster_access import connect
from keymiss.local.redis_users import credentials_for
from keymiss.models.export import Source, whole_beside
from keymiss.settings import Settings
from scripts.benchmarks.failure import BenchFailed
from scripts.benchmarks.redis_benchmark import redis_benchmark

UNCACHED_RUNS = 5
CACHED_RUNS = 20
GETS = 100_000
CLIENTS = 50
BASELINE_TIMEOUT_S = 600

SENTENCE_KEY = re.compile(r"^(?P<article>.+):\{(?P<tag>[^}]*)\}:(?P<idx>\d+)$")


def ask(http: httpx.Client, question: str, exhaustive: bool = False) -> tuple[float, dict[str, Any]]:
    """Milliseconds and the answer of POST /qasearch."""
    began = time.perf_counter()
    answer = http.post("/qasearch", json={"search": question, "exhaustive": exhaustive})
    took_ms = (time.perf_counter() - began) * 1000
    answer.raise_for_status()
    return took_ms, answer.json()


def cached_answers(client: RedisCluster, prefix: str, question: str) -> Iterator[tuple[redis.Redis, bytes]]:
    """The shard and the key of every answer to this question that is kept."""
    ending = re.sub(r"([*?\[\]\\])", r"\\\1", question)
    for node in client.get_primaries():
        shard = client.get_redis_connection(node)
        for key in shard.scan_iter(f"{prefix}{{*}}_*_{ending}", count=10_000):
            yield shard, key


def forget(client: RedisCluster, question: str) -> None:
    """Deletes the cached answers to this question on every master."""
    for prefix in (keys.ANSWER_PREFIX, keys.SPAN_PREFIX):
        for shard, key in cached_answers(client, prefix, question):
            shard.delete(key)


def sentences_read(client: RedisCluster, question: str) -> list[str]:
    """The sentences that were read for this question: also those whose answers are not shown."""
    found = []
    for shard, key in cached_answers(client, keys.SPAN_PREFIX, question):
        parts = keys.parse_answer_key(key.decode())
        found.append(shard.hget(parts.sentence_key, parts.idx).decode())
    return found


def model_calls(shard: redis.Redis, tag: str) -> int:
    """How often this shard's model was called (AI.INFO)."""
    flat = [
        v.decode() if isinstance(v, bytes) else v
        for v in shard.execute_command("AI.INFO", keys.model_key(tag))
    ]
    return int(dict(zip(map(str.lower, flat[::2]), flat[1::2], strict=True))["calls"])


def baseline(model: str, question: str, sentences: list[str]) -> dict[str, Any]:
    """What scripts/plain_bert_qa.py measures over these sentences."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as candidates:
        json.dump(sentences, candidates)
        candidates.flush()
        done = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("plain_bert_qa.py")),
                "--model",
                model,
                "--question",
                question,
                "--candidates",
                candidates.name,
            ],
            capture_output=True,
            text=True,
            timeout=BASELINE_TIMEOUT_S,
        )
    if done.returncode:
        raise SystemExit(f"plain_bert_qa.py failed: {done.stderr.strip()[-500:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measure_gets(client: RedisCluster, table: Table, sentencekey: str, question: str) -> None:
    """Rows for GETs of this sentence's answer to the question: cached, and to a new one, missing."""
    found = SENTENCE_KEY.match(sentencekey.removeprefix("sentence:"))
    if found is None:
        raise SystemExit(f"not a sentence key: {sentencekey}")
    article, tag, idx = found["article"], found["tag"], found["idx"]
    key = keys.answer_key(article, tag, idx, question)
    node = client.get_node_from_key(key)
    assert node is not None
    shard, port = client.get_redis_connection(node), int(node.port)
    shard.get(key)
    tls = credentials_for([Address(node.host, port)]).tls
    rate, median_ms = redis_benchmark(port, CLIENTS, GETS, "get", key, host=node.host, tls=tls)
    table.add_row("GET of a cached key", f"{rate:,.0f} /s", f"{CLIENTS} clients, p50 {median_ms:.2f} ms")
    rate, median_ms = redis_benchmark(
        port, CLIENTS, 5 * GETS, "get", key, pipeline=16, host=node.host, tls=tls
    )
    table.add_row(
        "GET of a cached key, -P 16", f"{rate:,.0f} /s", f"{CLIENTS} clients, p50 {median_ms:.2f} ms"
    )

    new = f"{question} ({time.time_ns()})"
    model_tag = shard_of(shards_of(client), key).tag
    before = model_calls(shard, model_tag)
    missing = keys.answer_key(article, tag, idx, new)
    _, median_ms = redis_benchmark(port, CLIENTS, CLIENTS, "get", missing, host=node.host, tls=tls)
    calls = model_calls(shard, model_tag) - before
    forget(client, new)
    table.add_row(
        "GET of one missing key", f"{median_ms:.1f} ms", f"{CLIENTS} clients at once: {calls} model call(s)"
    )


def main(
    url: Annotated[str, typer.Option(help="default: the local system")] = "",
    question: str = "Who performs viral transmission among adults",
    model: Annotated[str, typer.Option(help="default: KEYMISS_MODEL or models/reader")] = "",
    nodes: Annotated[str, typer.Option(help="default: the local system's")] = "",
) -> None:
    """A short benchmark of the running system, as a table."""
    settings = Settings.from_env()
    url = url or f"https://localhost:{settings.https_port}"

    table = Table("what", "result", "")
    with (
        httpx.Client(base_url=url, verify=False, timeout=60) as http,
        connect(nodes or settings.nodes) as client,
    ):
        uncached: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(UNCACHED_RUNS):
            for exhaustive, took in uncached.items():
                forget(client, question_in_key(question))
                took.append(ask(http, question, exhaustive)[0])
        cached = [ask(http, question)[0] for _ in range(CACHED_RUNS)]
        answer = ask(http, question)[1]
        read = answer["coverage"]["sentences"]["answered"]
        results = answer["results"]
        if not results:
            raise SystemExit("The question has no answer; load articles first.")
        sentences = sentences_read(client, question_in_key(question))
        if not sentences:
            raise SystemExit("None of the answers is kept: is a master short of memory?")
        for exhaustive, count in ((False, read), (True, len(sentences))):
            table.add_row(
                "question, not cached" + ", all read" * exhaustive,
                f"{statistics.median(uncached[exhaustive]):.1f} ms",
                f"median of {UNCACHED_RUNS}, API with TLS, {count} sentences read",
            )
        table.add_row(
            "question, cached",
            f"{statistics.median(cached):.1f} ms",
            f"median of {CACHED_RUNS}, API with TLS",
        )

        if not Credentials.from_env().is_somebody:
            try:
                measure_gets(client, table, results[0]["sentencekey"], question)
            except BenchFailed as error:
                raise SystemExit(str(error)) from None

    folder = whole_beside(Source(model or settings.model).folder)
    plain = baseline(str(folder), question, sentences)
    table.add_row(
        "plain transformers, cold",
        f"{plain['cold_s'] * 1000:,.0f} ms",
        "process start to answer, one sentence",
    )
    table.add_row(
        "plain transformers, warm",
        f"{plain['warm_ms_per_sentence'] * len(sentences):.1f} ms",
        f"the same {len(sentences)} sentences, one by one",
    )
    Console(highlight=False).print(table)


if __name__ == "__main__":
    typer.run(main)
