"""Where the graph is kept: ``KEYMISS_GRAPH_URL``. Unset or empty: in the cluster itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

VARIABLE = "KEYMISS_GRAPH_URL"
DEFAULT_PORT = 6379
DEFAULT_GRAPH = "concepts"

_TLS = {"redis": False, "rediss": True, "falkor": False, "falkors": True}
_GRAPH_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class BadGraphUrl(ValueError):
    """A URL that names no graph server. Its text never has the URL's user or password."""


@dataclass(frozen=True, slots=True)
class GraphUrl:
    """A FalkorDB or RedisGraph server and the name of the graph in it."""

    host: str
    port: int
    database: int
    graph: str
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> GraphUrl:
        """From ``redis://[user:password@]host[:port][/database][?graph=name]``; rediss://, falkor:// and
        falkors:// too. BadGraphUrl says what is wrong."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise BadGraphUrl(f"{VARIABLE}: its host or port cannot be read") from None
        if parts.scheme not in _TLS:
            raise BadGraphUrl(f"{VARIABLE} must begin with one of {', '.join(f'{name}://' for name in _TLS)}")
        if not host:
            raise BadGraphUrl(f"{VARIABLE} names no host")
        database = parts.path.removeprefix("/") or "0"
        if not (database.isascii() and database.isdigit()) or parts.fragment:
            raise BadGraphUrl(f"{VARIABLE}: behind the host there may be /<number of the database> only")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        graph = options.pop("graph", DEFAULT_GRAPH)
        if options:
            raise BadGraphUrl(f"{VARIABLE}: behind the question mark there may be graph=<name> only")
        if not _GRAPH_NAME.fullmatch(graph):
            raise BadGraphUrl(f"{VARIABLE}: the graph's name must match {_GRAPH_NAME.pattern}")
        return cls(
            host=host,
            port=port or DEFAULT_PORT,
            database=int(database),
            graph=graph,
            tls=_TLS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    @property
    def address(self) -> str:
        """For logs and errors: no user, no password."""
        return f"{self.host}:{self.port}/{self.database} graph {self.graph}"

    def client_options(self) -> dict[str, Any]:
        """What a client of redis-py needs to reach it."""
        return {
            "host": self.host,
            "port": self.port,
            "db": self.database,
            "username": self.username,
            "password": self.password,
            "ssl": self.tls,
            "protocol": 2,
        }


def graph_url(env: Mapping[str, str] | None = None) -> GraphUrl | None:
    """The server that the environment names; None: the cluster itself. Raises BadGraphUrl."""
    url = (os.environ if env is None else env).get(VARIABLE, "").strip()
    return GraphUrl.parse(url) if url else None
