"""The pipeline's functions on a small cluster: uploading, writing articles, waiting, what is there then."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.corpus.concept_table import ConceptTable
from keymiss.corpus.progress import wait_processed
from keymiss.corpus.prose import join_paragraphs, split_sentences
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, RedisServer, WorkerProcess, tags_of, wait_until

SCRIPTS = ("split.py", "tokenize.py", "concepts.py", "graph.py")
"""The functions that need no model (tokenize takes the embedded reader's tokenizer)."""
WAIT_S = 40.0
SAMPLE = REPO / "data" / "sample"
NOT_THE_PIPELINES = ("bert-qa", "bert-encoder", "concept-table:")
"""Keys that it reads and does not write."""

Keyspace = dict[str, tuple[str, Any]]


def upload(client: RedisCluster, *scripts: str) -> None:
    """Registers what is in gears/, by default all of SCRIPTS."""
    node = client.get_primaries()[0]
    for name in scripts or SCRIPTS:
        source = (REPO / "gears" / name).read_bytes()
        assert client.execute_command("RG.PYEXECUTE", source, target_nodes=node) in ("OK", b"OK"), name


def upload_source(server: RedisServer, source: str) -> None:
    """Registers a script's text."""
    with server.client() as client:
        assert client.execute_command("RG.PYEXECUTE", source) == b"OK"


def store_table(client: RedisCluster, table: ConceptTable | None = None) -> None:
    """The concept table, by default the sample's, on every shard."""
    table = table or sample_table()
    for tag in tags_of(client):
        client.hset(keys.concept_table_key(tag), mapping={"sha256": table.digest, "csv": table.csv_text})


@lru_cache(maxsize=1)
def sample_table() -> ConceptTable:
    """data/sample/concepts.csv"""
    return ConceptTable.from_csv_text((SAMPLE / "concepts.csv").read_text())


def table(*rows: str) -> ConceptTable:
    """A concept table of rows ``id,name,synonyms``."""
    return ConceptTable.from_csv_text("\n".join(("id,name,synonyms", *rows)))


@contextmanager
def running(
    *worker_arguments: str, masters: int = 2, env: Mapping[str, str] | None = None
) -> Iterator[tuple[RedisClusterServers, WorkerProcess, RedisCluster]]:
    """A cluster with a worker and the functions, and a client that decodes replies."""
    with (
        RedisClusterServers(masters=masters) as servers,
        WorkerProcess(servers, *worker_arguments, env=env) as worker,
        servers.client(decode_responses=True) as client,
    ):
        upload(client)
        yield servers, worker, client


def write(client: RedisCluster, name: str, *paragraphs: str, **fields: Any) -> None:
    """An article as keymiss.corpus.loading writes it: the hash, then the text."""
    head: dict[Any, Any] = {"title": name, **fields}
    client.hset(keys.article_key(name), mapping=head)
    client.set(keys.paragraphs_key(name), join_paragraphs(paragraphs))


def delete(client: RedisCluster, name: str) -> None:
    """The two keys of an article."""
    client.delete(keys.article_key(name))
    client.delete(keys.paragraphs_key(name))


def settle(client: RedisCluster, timeout_s: float = WAIT_S) -> None:
    """Until nothing waits."""
    wait_processed(client, patient(timeout_s))


def wait_caught_up(worker: WorkerProcess, times: int = 1) -> None:
    """Until the worker has said of each of its masters, so many times, that what was missed is queued."""

    def told() -> bool:
        said = [json.loads(line) for line in worker.log_text().splitlines() if '"caught_up"' in line]
        masters = [server for server in worker.servers if server.alive]
        return all(sum(one["shard"] == server.address for one in said) >= times for server in masters)

    wait_until(told, 20, "the worker has caught up with every shard")


def state_of(client: RedisCluster, article: str) -> dict[str, str]:
    """The fields of the article's state; empty when there is none."""
    return dict[Any, Any](client.hgetall(keys.state_key(article, keys.article_tag(article))))


def sentences_of(client: RedisCluster, article: str) -> list[str]:
    """The article's sentences in order."""
    found: dict[Any, Any] = client.hgetall(keys.sentence_key(article, keys.article_tag(article)))
    return [found[str(idx)] for idx in range(len(found))]


def last_errors(client: RedisCluster) -> dict[str, list[str]]:
    """Description of each registration -> its lastError on the masters that have one."""
    found: dict[str, list[str]] = {}
    for node in client.get_primaries():
        for row in client.execute_command("RG.DUMPREGISTRATIONS", target_nodes=node):
            about = _pairs(row)
            error = _pairs(about["RegistrationData"])["lastError"]
            if error not in (None, "", "None"):
                found.setdefault(about["desc"], []).append(error)
    return found


def _pairs(flat: list[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def keyspace(servers: RedisClusterServers, *without: str) -> Keyspace:
    """Every key of every master -> (type, value), but for those that begin with one of `without` (by default
    what the pipeline does not write). Of a stream its entries without their ids, of a tensor what
    AI.TENSORGET says. A stream without entries is as good as none."""
    found: Keyspace = {}
    for server in servers.masters:
        with server.client() as client:
            for key in client.scan_iter(count=1000):
                name = key.decode("utf-8", "backslashreplace")
                if not name.startswith(without or NOT_THE_PIPELINES):
                    found[name] = _value(client, key)
                    if found[name] == ("stream", []):
                        del found[name]
    return found


def _value(client: Any, key: bytes) -> tuple[str, Any]:
    kind = client.type(key).decode()
    if kind == "string":
        return kind, client.get(key)
    if kind == "hash":
        return kind, client.hgetall(key)
    if kind == "zset":
        return kind, sorted(client.zrange(key, 0, -1, withscores=True))
    if kind == "stream":
        return kind, [fields for _, fields in client.xrange(key)]
    if kind == "list":
        return kind, client.lrange(key, 0, -1)
    return kind, client.execute_command("AI.TENSORGET", key, "META", "BLOB")


def differences(left: Keyspace, right: Keyspace) -> list[str]:
    """What a person must know of two keyspaces that should be equal."""
    said = [f"only left: {key} {left[key]}" for key in sorted(left.keys() - right.keys())]
    said += [f"only right: {key} {right[key]}" for key in sorted(right.keys() - left.keys())]
    both = sorted(left.keys() & right.keys())
    return said + [f"{key}: {left[key]} != {right[key]}" for key in both if left[key] != right[key]]


def graph(client: Any) -> dict[tuple[str, str], dict[str, float]]:
    """The edges of all shards: (source, target) -> sentence (and year) -> score."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for key in client.scan_iter("graph:edge:*", target_nodes=RedisCluster.PRIMARIES):
        _, _, _, source, target = key.split(":")
        found.setdefault((source, target), {}).update(dict(client.zrange(key, 0, -1, withscores=True)))
    return found


def years(client: Any) -> dict[str, int]:
    """Year -> number of (edge, sentence) of all shards."""
    found: dict[str, int] = {}
    for key in client.scan_iter("graph:years:*", target_nodes=RedisCluster.PRIMARIES):
        for year, n in client.hgetall(key).items():
            found[year] = found.get(year, 0) + int(n)
    return found


@lru_cache(maxsize=1)
def sample_sentences() -> list[str]:
    """The sentences of the sample corpus."""
    paragraphs = []
    for path in sorted(SAMPLE.glob("KM*.json")):
        paragraphs += [part["text"] for part in json.loads(path.read_text())["body_text"]]
    return split_sentences(paragraphs)


def made_paragraphs(random_: random.Random, paragraphs: int = 2, sentences: int = 4) -> list[str]:
    """Paragraphs of sentences of the sample corpus."""
    return [" ".join(random_.sample(sample_sentences(), sentences)) for _ in range(paragraphs)]


def cli(servers: RedisClusterServers, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m keymiss.cli <arguments> --nodes ...`"""
    command = [sys.executable, "-m", "keymiss.cli", *map(str, arguments), "--nodes", servers.addresses]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=patient(100))
