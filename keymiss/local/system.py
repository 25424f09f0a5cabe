"""The local cluster: creates it once, starts and stops it, says how it is.

start() may be called at any time: it finds what is there already. Data stays in var/data/<port>; a
cluster is created only when no node has slots or knows another node.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import redis

from keymiss.addresses import Address
from keymiss.local.certificates import make_certificates
from keymiss.local.cluster_creation import WAIT_S, cluster_is_ok, create_cluster, wait
from keymiss.local.cluster_creation import connection as node_connection
from keymiss.local.module_build import build_module
from keymiss.local.nginx import render_nginx
from keymiss.local.observe import grafana_url, prometheus_url, without_grafana
from keymiss.local.preflight import observing_problems, problems
from keymiss.local.processes import StartError, Supervisor, write_configuration
from keymiss.local.redis_users import make_users
from keymiss.local.var_folders import make_folders
from keymiss.settings import Settings

LOAD_WAIT_S = 600.0
"""A node reads its data before it answers; gigabytes of models take minutes on a slow disk."""

Say = Callable[[str], None]


def connection(settings: Settings, port: int) -> AbstractContextManager[redis.Redis]:
    """A client of one local node that does not repeat commands."""
    return node_connection(Address(settings.host, port))


def node_answers(settings: Settings, supervisor: Supervisor, port: int) -> bool:
    """Whether it has read its data. StartError when it does not start."""
    state = supervisor.states().get(f"redis:{port}", ("", ""))[0]
    if state == "FATAL":
        raise StartError(f"the node on port {port} does not start:\n{supervisor.tail(f'redis:{port}')}")
    with connection(settings, port) as client:
        return not client.info("persistence")["loading"]


def nodes_of(settings: Settings) -> list[Address]:
    """Where all nodes listen."""
    return [Address(settings.host, port) for port in settings.ports]


def _is_served(settings: Settings, port: int) -> bool:
    """False only for a master that answers and has no worker."""
    try:
        with connection(settings, port) as client:
            if client.info("replication")["role"] != "master":
                return True
            return int(client.info("keymiss").get("keymiss_workers", 0)) > 0
    except (redis.RedisError, OSError):
        return True


def workers_attached(settings: Settings) -> bool:
    """Whether no master that answers is without a worker."""
    return all(_is_served(settings, port) for port in settings.ports)


def http_ok(url: str, timeout_s: float = 5.0) -> bool:
    """True when a GET of url answers 200; the certificate of https is not checked (it is our own)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=timeout_s, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def remembered(settings: Settings) -> dict[str, int]:
    """The layout the data in var was made with; empty when there is none."""
    return dict(json.loads(settings.layout.read_text())) if settings.layout.exists() else {}


def remember(settings: Settings) -> None:
    """The layout of the data from now on."""
    settings.layout.write_text(json.dumps(_layout(settings)) + "\n")


def check_layout(settings: Settings) -> None:
    """StartError when the data is of another layout."""
    old = remembered(settings)
    if old and old != _layout(settings):
        raise StartError(
            f"The data in {settings.data} is of a cluster with {old['masters']} masters, {old['replicas']} "
            f"replicas each, from port {old['base_port']}: start it so, remove that folder, or set "
            "KEYMISS_VAR to another one."
        )


def _layout(settings: Settings) -> dict[str, int]:
    return {"base_port": settings.base_port, "masters": settings.masters, "replicas": settings.replicas}


def start(settings: Settings, say: Say = print) -> bool:
    """Starts everything that does not run; False when all is up already.

    Raises StartError; what this call started is stopped again then.
    """
    supervisor = Supervisor(settings)
    running = supervisor.running()
    if running and settings.tls != settings.tls_authority.exists():
        raise StartError(
            f"The nodes that run speak {'no TLS' if settings.tls else 'TLS'}: keymiss down, then start again."
        )
    states = supervisor.states() if running else {}
    observed = "prometheus" in states
    if running and all(s == "RUNNING" for s, _ in states.values()) and (observed or not settings.observe):
        return False
    try:
        if not running:
            _launch(settings, supervisor)
        elif settings.observe and not observed:
            _add_observing(settings, supervisor)
        _bring_up(settings, supervisor, say)
        if settings.observe or observed:
            _bring_up_observing(settings, supervisor, say)
    except BaseException:
        if not running:
            supervisor.stop()
        raise
    return True


def _launch(settings: Settings, supervisor: Supervisor) -> None:
    supervisor.stop()  # what a killed supervisor has left
    found = problems(settings)
    if found:
        raise StartError("\n".join(found))
    check_layout(settings)
    make_folders(settings, None)
    if why := build_module(settings):
        raise StartError(why)
    remember(settings)
    make_users(settings)
    if why := make_certificates(settings):
        raise StartError(why)
    write_configuration(settings)
    render_nginx(settings)
    supervisor.launch()


def _add_observing(settings: Settings, supervisor: Supervisor) -> None:
    """To a system that runs without. The API is started again, as it is told where Prometheus is."""
    found = observing_problems(settings)
    if found:
        raise StartError("\n".join(found))
    check_layout(settings)
    make_users(settings)
    write_configuration(settings)
    supervisor.reload()


def _bring_up_observing(settings: Settings, supervisor: Supervisor, say: Say) -> None:
    logs = settings.log
    supervisor.start("exporter")
    supervisor.start("prometheus")
    ready = f"{prometheus_url(settings)}/-/ready"
    wait(lambda: http_ok(ready), WAIT_S, f"Prometheus answers; see {logs}/prometheus.log")
    say(f"Prometheus at {prometheus_url(settings)}/")
    if "grafana" not in supervisor.states():
        say(without_grafana(settings))
        return
    supervisor.start("grafana")
    health = f"{grafana_url(settings)}/api/health"
    wait(lambda: http_ok(health), WAIT_S, f"Grafana answers; see {logs}/grafana.log")
    say(
        f"Grafana at {grafana_url(settings)}/dashboards (to change something: user admin, password in "
        f"{settings.var}/grafana/admin-password); the same at https://localhost:{settings.https_port}/watch"
    )


def _bring_up(settings: Settings, supervisor: Supervisor, say: Say) -> None:
    for port in settings.ports:
        wait(partial(node_answers, settings, supervisor, port), LOAD_WAIT_S, f"the node on port {port}")
    how = "created" if create_cluster(nodes_of(settings), settings.masters) else "up"
    wait(lambda: cluster_is_ok(nodes_of(settings)), WAIT_S, "cluster_state:ok on every node")
    say(f"{settings.masters} masters, {settings.replicas} replica(s) each: cluster {how}")
    logs = settings.log
    supervisor.start("worker")
    wait(lambda: workers_attached(settings), WAIT_S, f"a worker at every master; see {logs}/worker.log")
    say("worker attached to every master")
    supervisor.start("api")
    api = f"http://{settings.host}:{settings.api_port}/livez"
    wait(lambda: http_ok(api), WAIT_S, f"the API answers; see {logs}/api.log")
    supervisor.start("nginx")
    front = f"https://localhost:{settings.https_port}/livez"
    wait(lambda: http_ok(front), WAIT_S, f"nginx answers; see {logs}/nginx.log")
    say(f"API at https://localhost:{settings.https_port}/")
