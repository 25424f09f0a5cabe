"""The system that is measured: cluster, worker, API and nginx as `keymiss up` has them, on free ports."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from keymiss import keys
from keymiss.api.settings import ApiSettings
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.topology import shard_of
from keymiss.corpus.concept_table import read_table
from keymiss.corpus.loading import LoadReport, load_files
from keymiss.corpus.progress import wait_processed
from keymiss.resources import sample_functions
from keymiss.worker.model_processes.memory import family_of
from scripts.benchmark import model_calls
from scripts.benchmarks.corpora import SAMPLE
from scripts.benchmarks.failure import BenchFailed
from tests.api.processes import ApiProcess, NginxProcess
from tests.api.scraping import Scraped, scrape
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, free_port, open_folder, wait_until

REPO = Path(__file__).resolve().parents[2]
PROCESS_LIMIT_S = 1800.0
LOAD_LIMIT_S = 1800  # of the full size, on a slow machine
ASK_LIMIT_S = 60.0
CONCEPTS = SAMPLE / "concepts.csv"
ALL_ANSWERS = {"min_score": 0, "limit": 100}
NO_RATE_LIMIT = {"rate=50r/s": "rate=100000r/s"}
"""Of nginx: how many questions one address may ask. Here all clients have one address."""


@dataclass(frozen=True)
class Asked:
    """A reply, and the time from the request to its last byte; `request_id` is in all logs."""

    ms: float
    reply: dict[str, Any]
    request_id: str


@dataclass(frozen=True)
class StoredSentence:
    """One that is in the cluster."""

    article: str
    tag: str
    idx: str
    text: str

    def answer_key(self, question: str) -> str:
        """Whose GET reads it."""
        return keys.answer_key(self.article, self.tag, self.idx, question)


class NotWhole(BenchFailed):
    """A question was not answered by all that were asked: its time says nothing."""


class System:
    """Runs while the `with` block does. `form`: of the reader, "" for the fastest one. `front`: with all
    functions, vectors, the API and nginx; `nginx`: texts of its template to be others."""

    def __init__(
        self,
        masters: int,
        replicas: int = 0,
        *,
        model: str = "models/reader",
        form: str = "",
        front: bool = True,
        api_env: Mapping[str, str] | None = None,
        nginx: Mapping[str, str] | None = None,
    ) -> None:
        self.masters, self.replicas = masters, replicas
        self._model, self._form, self._front = model, form, front
        self._api_env, self._nginx_changes = api_env, nginx

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        enter, metrics_port = self._stack.enter_context, free_port()
        blobs = ("--keymiss.model-folder", str(open_folder()))
        self.servers = enter(
            RedisClusterServers(*blobs, masters=self.masters, replicas=self.replicas, appendonly=True)
        )
        worker = WorkerProcess(self.servers, "--metrics-port", str(metrics_port))
        self.worker = enter(worker)
        self.worker_url = f"http://127.0.0.1:{metrics_port}"
        self.client = enter(self.servers.client())
        self.load_model()
        if not self._front:
            return
        self.load_model("keymiss.models.load_encoder")
        self.load_concepts()
        self.upload(*(path.name for path in sample_functions()))
        as_users = str(ApiSettings.model_fields["sure_score"].default)
        env = {"KEYMISS_API_SURE_SCORE": as_users}
        self.api = enter(ApiProcess(self.servers.addresses, self.masters, env | dict(self._api_env or {})))
        self.nginx = enter(NginxProcess(self.api.port, self._nginx_changes))
        self._http = enter(closing(connection_to(self.nginx.url)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def load_model(
        self, program: str = "keymiss.models.load", model: str = "", form: str | None = None
    ) -> None:
        """By `keymiss models load`, or `load-encoder`."""
        command = [sys.executable, "-m", program, "--nodes", self.servers.addresses]
        if program == "keymiss.models.load":
            chosen = self._form if form is None else form
            command += ["--model", model or self._model, *(["--form", chosen] if chosen else [])]
        env = {**os.environ, "PYTHONPATH": str(REPO)}
        done = subprocess.run(
            command, cwd=REPO, capture_output=True, text=True, timeout=LOAD_LIMIT_S, env=env
        )
        if done.returncode:
            raise BenchFailed(f"{program}: {done.stderr.strip()[-800:]}")

    def load_concepts(self) -> None:
        """Those of the sample."""
        table, _ = read_table(CONCEPTS)
        for shard in shards_of(self.client):
            fields = {"sha256": table.digest, "csv": table.csv_text}
            self.client.hset(keys.concept_table_key(shard.tag), mapping=fields)

    def upload(self, *names: str) -> None:
        """Registers functions of gears/."""
        node = self.client.get_primaries()[0]
        for name in names:
            source = (REPO / "gears" / name).read_bytes()
            self.client.execute_command("RG.PYEXECUTE", source, target_nodes=node)

    def load_articles(self, files: Sequence[Path]) -> LoadReport:
        """Until the functions have done with them and, if there is an API, its index has them."""
        report = load_files(self.client, files)
        wait_processed(self.client, PROCESS_LIMIT_S)
        if self._front:
            wait_until(self._indexed, 120, "the index has all sentences and vectors")
        return report

    def _indexed(self) -> bool:
        now = scrape(self.api.url)
        sentences = now.total("keymiss_indexed_sentences")
        stored = sum(self.client.hlen(key) for key in self._keys(keys.SENTENCE_PREFIX))
        return bool(sentences == stored == now.total("keymiss_indexed_vectors"))

    def _keys(self, prefix: str) -> list[bytes]:
        return [
            key
            for node in self.client.get_primaries()
            for key in self.client.get_redis_connection(node).scan_iter(f"{prefix}*", 1000, _type="hash")
        ]

    def sentences_on(self, server: RedisServer, most: int) -> list[StoredSentence]:
        """Of one master, not too short ones."""
        found: list[StoredSentence] = []
        with server.client() as client:
            for key in sorted(client.scan_iter(f"{keys.SENTENCE_PREFIX}*", 1000, _type="hash")):
                article, _, tag = key.decode().removeprefix(keys.SENTENCE_PREFIX).rpartition(":")
                for idx, text in sorted(client.hgetall(key).items()):
                    if len(found) < most and len(text) > 40:
                        found.append(StoredSentence(article, tag.strip("{}"), idx.decode(), text.decode()))
        return found

    def ask(self, question: str, **wanted: Any) -> Asked:
        """Through nginx; every candidate is read unless `wanted` says `exhaustive=False`. NotWhole if a
        sentence or a shard is missing."""
        body = json.dumps({"search": question, "exhaustive": True, **wanted})
        began_s = time.perf_counter()
        reply, text = self._post(body)
        ms = (time.perf_counter() - began_s) * 1000
        if not is_whole(reply.status, text):
            raise NotWhole(f"{question}: {reply.status} {text.decode()[:500]}")
        return Asked(ms, json.loads(text), reply.headers["X-Request-ID"])

    def _post(self, body: str) -> tuple[HTTPResponse, bytes]:
        """Once more where nginx has closed the connection meanwhile."""
        for _ in range(2):
            try:
                self._http.request("POST", "/qasearch", body, {"Content-Type": "application/json"})
                reply = self._http.getresponse()
                return reply, reply.read()
            except (ConnectionError, ssl.SSLEOFError):
                self._http.close()
        raise BenchFailed("nginx closes every connection")

    def sentences_read(self, question: str) -> list[str]:
        """For a question that was asked; of its cached answers."""
        results = self.ask(question, **ALL_ANSWERS).reply["results"]
        found = {one["sentencekey"]: one["sentence"] for each in results for one in each["sources"]}
        return list(found.values())

    def worker_figures(self) -> Scraped:
        """The worker's metrics now."""
        return scrape(self.worker_url)

    def nginx_line(self, request_id: str) -> dict[str, Any]:
        """What nginx logged of a request."""

        def line() -> dict[str, Any] | None:
            for text in (self.nginx.folder / "nginx-access.log").read_text().splitlines():
                if request_id in text:
                    found: dict[str, Any] = json.loads(text)
                    return found
            return None

        found = wait_until(line, 5, "nginx's line of the request")
        assert found is not None
        return found

    def processes(self) -> dict[str, list[int]]:
        """Part -> process ids."""
        return {
            "nodes": [node.pid for node in self.servers.nodes],
            "worker": family_of(self.worker.pid),
            "API": family_of(self.api.pid),
            "nginx": family_of(self.nginx.pid),
        }

    def model_calls(self, key: str) -> int:
        """Of the reader on the shard that has this key."""
        shard = shard_of(shards_of(self.client), key)
        node = self.client.get_node_from_key(key)
        return model_calls(self.client.get_redis_connection(node), shard.tag)


def connection_to(url: str) -> HTTPSConnection:
    """One that is kept open. The standard library's client: httpx takes a millisecond of processor for a
    request, of the cores that are measured."""
    address = urlsplit(url)
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(str(address.hostname), address.port, timeout=ASK_LIMIT_S, context=unverified)


def is_whole(status: int, text: bytes) -> bool:
    """Of a reply: every sentence that was asked was answered, and every shard is indexed."""
    if status != 200:
        return False
    covered = json.loads(text)["coverage"]
    sentences = covered["sentences"]
    return bool(sentences["answered"] == sentences["asked"] > 0 and not covered["shards"]["unindexed"])
