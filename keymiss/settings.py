"""The settings of the local cluster, all from the environment; a bad value is one clear sentence.

================== ================ =================================================================
setting            default          what
================== ================ =================================================================
KEYMISS_HOST       127.0.0.1        address the Redis nodes and the API are bound to
KEYMISS_BASE_PORT  30001            first Redis port; the nodes take the ports from here on
KEYMISS_MASTERS    4                master shards, 1..64
KEYMISS_REPLICAS   1                replicas of each master, 0..3
KEYMISS_API_PORT   8081             the API, behind nginx
KEYMISS_HTTPS_PORT 8080             nginx with TLS
KEYMISS_VAR        <project>/var    data, logs, certificate, generated configuration;
                                    installed: ~/.local/state/keymiss
KEYMISS_SERVER     redis            redis or valkey
KEYMISS_MODEL      models/reader    reader: a folder, or the name of a Hugging Face QA model
KEYMISS_NODES      from the above   host:port,host:port,...: where clients find the cluster
KEYMISS_USER       keymiss          started by root: who the processes run as; no keymiss there: nobody
================== ================ =================================================================

=========================== ======= ==========================================================
watching (keymiss/local/observe.py), all on loopback
=========================== ======= ==========================================================
KEYMISS_WORKER_METRICS_PORT 8082    the worker's /metrics
KEYMISS_OBSERVE             no      yes: Prometheus, the Redis exporter and Grafana are started too
KEYMISS_PROMETHEUS_PORT     9090    Prometheus
KEYMISS_EXPORTER_PORT       9121    the Redis exporter
KEYMISS_GRAFANA_PORT        3000    Grafana, if it is installed
KEYMISS_SCRAPE_INTERVAL_S   5       how often Prometheus asks, and evaluates the alerts; 1..5
=========================== ======= ==========================================================

The API's own settings (KEYMISS_API_*) are in keymiss/api/settings.py.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keymiss.resources import default_var

BUS_PORT_OFFSET = 10000
"""A node's cluster bus listens on its port plus this (Redis Cluster specification)."""
PROCESS_USERS = ("keymiss", "nobody")
"""Who runs the processes that root starts: the first that there is."""
SERVER_BINARIES = {"redis": "redis-server", "valkey": "valkey-server"}


class BadSetting(ValueError):
    """A setting that cannot be used; the text names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The local cluster's settings; see the table above."""

    host: str = "127.0.0.1"
    base_port: int = 30001
    masters: int = 4
    replicas: int = 1
    api_port: int = 8081
    https_port: int = 8080
    var: Path = field(default_factory=default_var)
    server: str = "redis"
    model: str = "models/reader"
    nodes_text: str = ""
    user: str = "nobody"
    worker_metrics_port: int = 8082
    observe: bool = False
    prometheus_port: int = 9090
    exporter_port: int = 9121
    grafana_port: int = 3000
    scrape_interval_s: int = 5

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Settings from ``env`` (default: the process's). Raises BadSetting."""
        env = os.environ if env is None else env

        def number(name: str, default: int, low: int, high: int) -> int:
            text = env.get(name) or str(default)
            if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
                raise BadSetting(f"{name} must be a whole number from {low} to {high}, not {text!r}")
            return int(text)

        server = env.get("KEYMISS_SERVER") or "redis"
        if server not in SERVER_BINARIES:
            raise BadSetting(f"KEYMISS_SERVER must be redis or valkey, not {server!r}")
        observe = env.get("KEYMISS_OBSERVE") or "no"
        if observe not in ("yes", "no"):
            raise BadSetting(f"KEYMISS_OBSERVE must be yes or no, not {observe!r}")
        settings = cls(
            host=env.get("KEYMISS_HOST") or "127.0.0.1",
            base_port=number("KEYMISS_BASE_PORT", 30001, 1024, 55279),
            masters=number("KEYMISS_MASTERS", 4, 1, 64),
            replicas=number("KEYMISS_REPLICAS", 1, 0, 3),
            api_port=number("KEYMISS_API_PORT", 8081, 1, 65535),
            https_port=number("KEYMISS_HTTPS_PORT", 8080, 1, 65535),
            var=Path(env.get("KEYMISS_VAR") or default_var()).resolve(),
            server=server,
            model=env.get("KEYMISS_MODEL") or "models/reader",
            nodes_text=env.get("KEYMISS_NODES") or "",
            user=_user(env.get("KEYMISS_USER") or ""),
            worker_metrics_port=number("KEYMISS_WORKER_METRICS_PORT", 8082, 1, 65535),
            observe=observe == "yes",
            prometheus_port=number("KEYMISS_PROMETHEUS_PORT", 9090, 1, 65535),
            exporter_port=number("KEYMISS_EXPORTER_PORT", 9121, 1, 65535),
            grafana_port=number("KEYMISS_GRAFANA_PORT", 3000, 1, 65535),
            scrape_interval_s=number("KEYMISS_SCRAPE_INTERVAL_S", 5, 1, 5),
        )
        parse_nodes(settings.nodes)
        return settings

    @property
    def ports(self) -> range:
        """The ports of the Redis nodes, masters first (as the cluster is created)."""
        return range(self.base_port, self.base_port + self.masters * (1 + self.replicas))

    @property
    def nodes(self) -> str:
        """host:port,...: KEYMISS_NODES, else all nodes of the local cluster."""
        return self.nodes_text or ",".join(f"{self.host}:{port}" for port in self.ports)

    @property
    def run(self) -> Path:
        """Generated configuration, sockets and process ids."""
        return self.var / "run"

    @property
    def log(self) -> Path:
        """Logs of all processes."""
        return self.var / "log"

    @property
    def secrets(self) -> Path:
        """Passwords of the servers' users, and the users themselves."""
        return self.var / "secrets"

    @property
    def data(self) -> Path:
        """One folder of data for each node, named by its port."""
        return self.var / "data"


def _user(given: str) -> str:
    if given and not _is_user(given):
        raise BadSetting(f"KEYMISS_USER must be a user of this machine, not {given!r}")
    return given or next(filter(_is_user, PROCESS_USERS), PROCESS_USERS[-1])


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def parse_nodes(text: str) -> list[tuple[str, int]]:
    """``"host:port,host:port"`` to pairs. Raises BadSetting."""
    nodes = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        host, colon, port = part.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise BadSetting(f"KEYMISS_NODES must be host:port,host:port,...; {part!r} is not host:port")
        nodes.append((host.strip("[]"), int(port)))
    if not nodes:
        raise BadSetting("KEYMISS_NODES names no node")
    return nodes
