"""The local cluster: creates it once, starts and stops it, says how it is.

start() may be called at any time: it finds what is there already. Data stays in var/data/<port>; a
cluster is created only when no node has slots or knows another node.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keymiss.keys import SLOTS
from keymiss.nginx import render_nginx
from keymiss.preflight import problems
from keymiss.processes import StartError, Supervisor, make_certificate, write_configuration
from keymiss.settings import Settings

WAIT_S = 60.0
LOAD_WAIT_S = 600.0
"""A node reads its data before it answers; gigabytes of models take minutes on a slow disk."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NodeState:
    """How one node is. error is empty when it answers."""

    port: int
    role: str = ""
    slots: int = 0
    keys: int = 0
    used_memory_bytes: int = 0
    workers: int = 0
    error: str = ""


@contextmanager
def connection(settings: Settings, port: int) -> Iterator[redis.Redis]:
    """A client of one node that does not repeat commands."""
    client = redis.Redis(
        host=settings.host,
        port=port,
        protocol=2,
        socket_timeout=10,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        yield client
    finally:
        client.close()


def _wait(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    last = ""
    while True:
        try:
            if condition():
                return
        except (redis.RedisError, OSError) as error:
            last = f" ({error})"
        if time.monotonic() > deadline:
            raise StartError(f"{what}: not within {timeout_s:.0f} s{last}")
        time.sleep(0.1)


def _cluster_info(settings: Settings, port: int) -> dict[str, str]:
    with connection(settings, port) as client:
        info: dict[str, str] = client.execute_command("CLUSTER INFO")
        return info


def _node_answers(settings: Settings, supervisor: Supervisor, port: int) -> bool:
    state = supervisor.states().get(f"redis:{port}", ("", ""))[0]
    if state == "FATAL":
        raise StartError(f"the node on port {port} does not start:\n{supervisor.tail(f'redis:{port}')}")
    with connection(settings, port) as client:
        return not client.info("persistence")["loading"]


def create_cluster(settings: Settings) -> bool:
    """Makes the nodes one cluster; False when they are one already. Raises StartError."""
    infos = [_cluster_info(settings, port) for port in settings.ports]
    if any(int(i["cluster_slots_assigned"]) or int(i["cluster_known_nodes"]) > 1 for i in infos):
        return False
    masters = list(settings.ports)[: settings.masters]
    bounds = [round(i * SLOTS / settings.masters) for i in range(settings.masters + 1)]
    for i, port in enumerate(settings.ports):
        with connection(settings, port) as client:
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
            if i < settings.masters:
                client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
            if i:
                client.execute_command("CLUSTER MEET", settings.host, settings.base_port)
    count = len(settings.ports)
    _wait(
        lambda: all(int(_cluster_info(settings, p)["cluster_known_nodes"]) == count for p in settings.ports),
        WAIT_S,
        "the nodes meet",
    )
    for i, port in enumerate(list(settings.ports)[settings.masters :]):
        with connection(settings, masters[i % settings.masters]) as client:
            master_id = client.execute_command("CLUSTER MYID")
        _wait(partial(_replicate, settings, port, master_id), WAIT_S, "replicas follow their masters")
    return True


def _replicate(settings: Settings, port: int, master_id: str) -> bool:
    with connection(settings, port) as client:
        return bool(client.execute_command("CLUSTER REPLICATE", master_id))


def cluster_is_ok(settings: Settings) -> bool:
    """True when every node says cluster_state:ok and every replica is linked to its master."""
    for port in settings.ports:
        if _cluster_info(settings, port)["cluster_state"] != "ok":
            return False
        with connection(settings, port) as client:
            replication = client.info("replication")
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
    return True


def node_state(settings: Settings, port: int) -> NodeState:
    """Asks one node how it is."""
    try:
        with connection(settings, port) as client:
            role = client.info("replication")["role"]
            my_id = client.execute_command("CLUSTER MYID")
            slots = 0
            for first, last, master, *_ in client.execute_command("CLUSTER SLOTS"):
                if master[2] == my_id:
                    slots += last - first + 1
            keymiss = client.info("keymiss")
            return NodeState(
                port=port,
                role="replica" if role == "slave" else role,
                slots=slots,
                keys=client.dbsize(),
                used_memory_bytes=client.info("memory")["used_memory"],
                workers=int(keymiss.get("keymiss_workers", 0)),
            )
    except (redis.RedisError, OSError) as error:
        return NodeState(port=port, error=str(error))


def _workers_attached(settings: Settings) -> bool:
    states = [node_state(settings, port) for port in settings.ports]
    return all(s.workers for s in states if s.role == "master")


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
    path = settings.data / "layout.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _check_layout(settings: Settings) -> None:
    layout = {"base_port": settings.base_port, "masters": settings.masters, "replicas": settings.replicas}
    old = remembered(settings)
    if old and old != layout:
        raise StartError(
            f"The data in {settings.data} is of a cluster with {old['masters']} masters, {old['replicas']} "
            f"replicas each, from port {old['base_port']}: start it so, remove that folder, or set "
            "KEYMISS_VAR to another one."
        )
    settings.data.mkdir(parents=True, exist_ok=True)
    (settings.data / "layout.json").write_text(json.dumps(layout) + "\n")


def start(settings: Settings, say: Say = print) -> bool:
    """Starts everything that does not run; False when all is up already.

    Raises StartError; what this call started is stopped again then.
    """
    supervisor = Supervisor(settings)
    running = supervisor.running()
    if running and all(state == "RUNNING" for state, _ in supervisor.states().values()):
        return False
    try:
        if not running:
            _launch(settings, supervisor)
        _bring_up(settings, supervisor, say)
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
    _check_layout(settings)
    make_certificate(settings)
    write_configuration(settings)
    render_nginx(settings)
    supervisor.launch()


def _bring_up(settings: Settings, supervisor: Supervisor, say: Say) -> None:
    for port in settings.ports:
        _wait(partial(_node_answers, settings, supervisor, port), LOAD_WAIT_S, f"the node on port {port}")
    how = "created" if create_cluster(settings) else "up"
    _wait(lambda: cluster_is_ok(settings), WAIT_S, "cluster_state:ok on every node")
    say(f"{settings.masters} masters, {settings.replicas} replica(s) each: cluster {how}")
    logs = settings.log
    supervisor.start("worker")
    _wait(lambda: _workers_attached(settings), WAIT_S, f"a worker at every master; see {logs}/worker.log")
    say("worker attached to every master")
    supervisor.start("api")
    api = f"http://{settings.host}:{settings.api_port}/livez"
    _wait(lambda: http_ok(api), WAIT_S, f"the API answers; see {logs}/api.log")
    supervisor.start("nginx")
    front = f"https://localhost:{settings.https_port}/livez"
    _wait(lambda: http_ok(front), WAIT_S, f"nginx answers; see {logs}/nginx.log")
    say(f"API at https://localhost:{settings.https_port}/")
