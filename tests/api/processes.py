"""The API and nginx as real processes, and a cluster that was filled beforehand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

from keymiss import Client
from keymiss.api.questions.question_in_key import question_in_key
from keymiss.client import Answers, Ready, Retries, Unavailable
from keymiss.keys import article_key, sentence_key, slot_of, span_key, tag_for_slot
from tests.patience import patient
from tests.servers import REPO, Process, RedisClusterServers, free_port, stand_still, wait_until

QUESTION = "Who performs viral transmission among adults"
SENTENCES = {
    "0": "Viral transmission among adults is performed by infected children.",
    "1": "A cat sleeps for most of the day.",
    "2": "The viral load falls within ten days.",
}


SILENT_FOR_LONG = ("--cluster-require-full-coverage", "no", "--cluster-node-timeout", "60000")
"""Of a cluster whose masters are paused: the others answer for their slots, and do not call it failed."""


class Running(Process):
    """A process with a `with` block."""

    def start(self) -> Self:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"--- log of {self.name}\n{self.tail()}")
        self.terminate()
        self.discard()


class ApiProcess(Running):
    """`python -m keymiss.api` in front of `nodes`. wait_indexed: shards to wait for (0: do not wait).

    Every candidate is read, unless `env` says something else.
    """

    def __init__(self, nodes: str, wait_indexed: int = 0, env: Mapping[str, str] | None = None) -> None:
        super().__init__("api", {"PYTHONPATH": str(REPO), "KEYMISS_API_SURE_SCORE": "1", **(env or {})})
        self.nodes = nodes
        self.port = free_port()
        self.wait_indexed = wait_indexed

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        command = [sys.executable, "-m", "keymiss.api", "--port", str(self.port), "--nodes", self.nodes]
        self.spawn(command, cwd=REPO)
        wait_until(self._up, 30, "the API answers")
        return self

    def _up(self) -> bool:
        assert self.alive, self.tail()
        try:
            live = httpx.get(f"{self.url}/livez").status_code == 200
        except httpx.TransportError:
            return False
        return live and self.log_text().count("sentences indexed") >= self.wait_indexed

    def client(self, admin_key: str | None = None) -> Client:
        """The Python client, which repeats nothing here: a test sees what comes first."""
        once = Retries(attempts=1)
        return Client(self.url, admin_key=admin_key, verify=False, timeout_s=patient(30), retries=once)

    def ask(self, question: str = QUESTION, limit: int | None = None, offset: int = 0) -> Answers:
        """By the Python client: raises its errors."""
        with self.client() as client:
            return client.ask(question, limit=limit, offset=offset)

    def ready(self) -> Ready:
        """By the Python client: raises its errors."""
        with self.client() as client:
            return client.ready()

    def missing(self) -> list[str]:
        """What /readyz says is missing; nothing when it is ready."""
        try:
            self.ready()
        except Unavailable as error:
            found = error.members["missing"]
            assert isinstance(found, list)
            assert found
            return [str(one) for one in found]
        return []


class NginxProcess(Running):
    """A real nginx from nginx/nginx.conf.template with a self-signed certificate.

    changes: texts of the template, each there once, and what a test puts in their place.
    """

    def __init__(self, api_port: int, changes: Mapping[str, str] | None = None) -> None:
        super().__init__("nginx")
        self.port = free_port()
        self.api_port = api_port
        self.changes = changes or {}
        self.certificate = self.folder / "cert.pem"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> Self:
        key = self.folder / "key.pem"
        self.folder.chmod(0o755)
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "1",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                str(key),
                "-out",
                str(self.certificate),
            ],
            check=True,
            capture_output=True,
        )
        text = (REPO / "nginx" / "nginx.conf.template").read_text()
        values = {
            "LISTEN": f"127.0.0.1:{self.port}",
            "API": f"127.0.0.1:{self.api_port}",
            "TLS_CERT": self.certificate,
            "TLS_KEY": key,
            "PAGE": REPO / "nginx" / "page",
            "VAR": self.folder,
            "ACCESS_LOG": self.folder / "nginx-access.log",
            "ERROR_LOG": self.folder / "nginx-error.log",
            "USER": "",
        }
        for old, new in self.changes.items():
            assert text.count(old) == 1, f"not once in the template: {old}"
            text = text.replace(old, new)
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", str(value))
        config = self.folder / "nginx.conf"
        config.write_text(text)
        self.spawn(
            ["nginx", "-p", str(self.folder), "-e", str(self.folder / "nginx-error.log"), "-c", str(config)]
        )
        wait_until(self._up, 15, "nginx answers")
        return self

    def _up(self) -> bool:
        assert self.alive, self.tail()
        try:
            return httpx.get(f"{self.url}/livez", verify=False).status_code in (200, 503)
        except httpx.TransportError:
            return False


def shard_tags(masters: int) -> list[str]:
    """The tags of a fresh RedisClusterServers of that many masters, in slot order."""
    return [tag_for_slot(round(i * 16384 / masters)) for i in range(masters)]


def article_with_title_on(tag: str, masters: int) -> str:
    """An article's name whose article:* key lies on the shard of `tag`."""
    owner = slot_of(f"{{{tag}}}") * masters // 16384
    return next(
        name
        for name in (f"KM{i}" for i in range(1000))
        if slot_of(article_key(name)) * masters // 16384 == owner
    )


def fill(cluster: RedisClusterServers, question: str | None = QUESTION) -> dict[str, str]:
    """One article on each shard; with `question`, its answers are there already. Returns tag -> article."""
    articles = {}
    tags = shard_tags(cluster.n_masters)
    with cluster.client() as client:
        for number, tag in enumerate(tags):
            article = articles[tag] = article_with_title_on(tag, len(tags))
            client.hset(
                sentence_key(article, tag), mapping={k: f"{v[:-1]} ({tag})." for k, v in SENTENCES.items()}
            )
            client.hset(article_key(article), "title", f"Title of {article}")
            for idx in SENTENCES if question else ():
                value = {"answer": f"answer {idx} of {tag}", "score": 0.9 - int(idx) / 10 - number / 100}
                client.set(span_key(article, tag, idx, question_in_key(question or "")), json.dumps(value))
    return articles


def pause(server: Process) -> None:
    """The server stops answering, but its connections stay open."""
    stand_still(server.pid)


def resume(server: Process) -> None:
    os.kill(server.pid, signal.SIGCONT)
