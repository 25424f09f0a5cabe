"""What all subcommands share: output, settings, a client of the cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import redis
import typer
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException
from rich.console import Console

from keymiss.addresses import Address, parse_addresses
from keymiss.cluster.credentials import Credentials, refusal
from keymiss.cluster.redis_cluster import open_cluster
from keymiss.environment import BadSetting
from keymiss.local.redis_users import credentials_for
from keymiss.settings import Settings

errors = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)

SCRIPT_TIMEOUT_S = 600.0


def fail(text: str, code: int = 1) -> NoReturn:
    """Ends the program with a sentence on stderr."""
    errors.print(text, style="red", markup=False)
    raise typer.Exit(code)


def settings() -> Settings:
    """The settings from the environment; exit 2 on a bad one, of the credentials too."""
    if "/usr/sbin" not in os.environ.get("PATH", ""):  # nginx is there, and not on the path of every user
        os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        Credentials.from_env()
        return Settings.from_env()
    except BadSetting as error:
        fail(str(error), 2)


def runs(current: Settings) -> bool:
    """Whether the local system runs; exit 1 when it is somebody else's."""
    from keymiss.local.processes import StartError, Supervisor

    try:
        return Supervisor(current).running()
    except StartError as error:
        fail(str(error))


def credentials(nodes: Iterable[Address]) -> Credentials:
    """Who this is to these nodes; exit 2 when that cannot be used."""
    try:
        return credentials_for(nodes)
    except BadSetting as error:
        fail(str(error), 2)


def addresses(nodes: str) -> tuple[Address, ...]:
    """Those of ``nodes``, or of the settings; exit 2 on a bad one."""
    try:
        return parse_addresses(nodes or settings().nodes)
    except ValueError as error:
        fail(f"--nodes {error}", 2)


@contextmanager
def cluster(nodes: str) -> Iterator[RedisCluster]:
    """A client of the cluster; a lost connection is one sentence and exit 1, a refused user exit 2."""
    given = addresses(nodes)
    mine = credentials(given)
    try:
        with open_cluster(given, mine, socket_timeout=SCRIPT_TIMEOUT_S, socket_connect_timeout=5) as client:
            yield client
    except (redis.ConnectionError, redis.TimeoutError, RedisClusterException) as error:
        if refused := refusal(error, mine):
            fail(refused, 2)
        fail(f"No answer from the cluster: {error}. Is it started (keymiss up)?")
    except redis.OutOfMemoryError as error:
        fail(
            "A shard's memory is full (maxmemory) and it may drop nothing more, so it takes no writes: give "
            f"it more memory, or load less (docs/operations.md, Memory). It said: {error}"
        )
    except redis.RedisError as error:
        if refused := refusal(error, mine):
            fail(refused, 2)
        fail(f"The cluster refused: {error}")
