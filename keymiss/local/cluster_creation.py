"""Making nodes one cluster: the local ones (keymiss/local/system.py), those in containers (cluster-create).

A cluster is created only when no node has slots or knows another node. The first nodes become the masters,
with an equal share of the slots each; the replicas follow them in turn.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keymiss.addresses import Address
from keymiss.cluster.credentials import Credentials, refusal
from keymiss.cluster.tls import explained
from keymiss.keys import SLOTS
from keymiss.local.processes import StartError
from keymiss.local.redis_users import credentials_for

WAIT_S = 60.0


@contextmanager
def connection(node: Address) -> Iterator[redis.Redis]:
    """A client of one node that does not repeat commands."""
    mine = credentials_for([node])
    client = redis.Redis(
        *node,
        protocol=2,
        socket_timeout=10,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        **mine.client_options,
    )
    try:
        with explained(node, mine.tls):
            yield client
    finally:
        client.close()


def wait(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Until condition() is true; connection errors count as "not yet". StartError after timeout_s."""
    deadline = time.monotonic() + timeout_s
    last = ""
    while True:
        try:
            if condition():
                return
        except (redis.RedisError, OSError) as error:
            if refused := refusal(error, Credentials.from_env()):
                raise StartError(f"{what}: {refused}") from None
            last = f" ({error})"
        if time.monotonic() > deadline:
            raise StartError(f"{what}: not within {timeout_s:.0f} s{last}")
        time.sleep(0.1)


def cluster_info(node: Address) -> dict[str, str]:
    """CLUSTER INFO of one node."""
    with connection(node) as client:
        info: dict[str, str] = client.execute_command("CLUSTER INFO")
        return info


def create_cluster(nodes: Sequence[Address], masters: int) -> bool:
    """Makes the nodes one cluster; False when they are one already. Raises StartError."""
    infos = [cluster_info(node) for node in nodes]
    if any(int(i["cluster_slots_assigned"]) or int(i["cluster_known_nodes"]) > 1 for i in infos):
        return False
    bounds = [round(i * SLOTS / masters) for i in range(masters + 1)]
    first = (socket.gethostbyname(nodes[0].host), nodes[0].port)  # CLUSTER MEET takes no names
    for i, node in enumerate(nodes):
        with connection(node) as client:
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
            if i < masters:
                client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
            if i:
                client.execute_command("CLUSTER MEET", *first)
    wait(
        lambda: all(int(cluster_info(node)["cluster_known_nodes"]) == len(nodes) for node in nodes),
        WAIT_S,
        "the nodes meet",
    )
    for i, node in enumerate(nodes[masters:]):
        with connection(nodes[i % masters]) as client:
            master_id = client.execute_command("CLUSTER MYID")
        wait(partial(replicate, node, master_id), WAIT_S, "replicas follow their masters")
    return True


def replicate(node: Address, master_id: str) -> bool:
    """Makes a node without slots the replica of a master. Raises RedisError."""
    with connection(node) as client:
        return bool(client.execute_command("CLUSTER REPLICATE", master_id))


def cluster_is_ok(nodes: Sequence[Address]) -> bool:
    """True when every node says cluster_state:ok and every replica is linked to its master."""
    for node in nodes:
        if cluster_info(node)["cluster_state"] != "ok":
            return False
        with connection(node) as client:
            replication = client.info("replication")
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
    return True
