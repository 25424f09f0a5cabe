"""What an operator does to a cluster with `redis-cli --cluster`."""

from __future__ import annotations

import subprocess

from tests.patience import patient
from tests.servers import RedisClusterServers, RedisServer, wait_until


def node_id(server: RedisServer) -> str:
    """As the cluster calls it."""
    with server.client(decode_responses=True) as client:
        return str(client.execute_command("CLUSTER", "MYID"))


def redis_cli(command: str, *arguments: str, timeout_s: float = 120) -> str:
    """`redis-cli --cluster COMMAND ...`: what it printed. Raises when it fails."""
    line = ["redis-cli", "--cluster", command, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=patient(timeout_s))
    if done.returncode:
        raise AssertionError(f"{line}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def move_slots(source: RedisServer, to: RedisServer, slots: int) -> None:
    """The lowest slots of one master, as redis-cli chooses them."""
    wanted = ("--cluster-from", node_id(source), "--cluster-to", node_id(to), "--cluster-slots", str(slots))
    redis_cli("reshard", source.address, *wanted, "--cluster-yes")


def add_masters(cluster: RedisClusterServers, count: int) -> list[RedisServer]:
    """New masters with their share of the slots; they are in `nodes` from then on."""
    new = [RedisServer(cluster=True).start() for _ in range(count)]
    known = len([node for node in cluster.nodes if node.alive])
    for server in new:
        wait_until(lambda: _agreed(cluster.nodes[0]), 20, "the nodes agree on the slots")
        redis_cli("add-node", server.address, cluster.nodes[0].address)
        cluster.nodes.append(server)
        known += 1
        wait_until(lambda: all(_knows(node, known) for node in cluster.nodes if node.alive), 20, "all know")  # noqa: B023
    wait_until(lambda: _agreed(cluster.nodes[0]), 20, "the nodes agree on the slots")
    cluster.wait_ok()
    redis_cli(
        "rebalance", cluster.nodes[0].address, "--cluster-use-empty-masters", "--cluster-threshold", "1"
    )
    return new


def remove_masters(cluster: RedisClusterServers, leaving: list[RedisServer]) -> None:
    """One after the other: its slots go to the others, then it does. (An empty master becomes a replica, and
    redis-cli of 7.0 cannot go on with others then.)"""
    for server in leaving:
        stays = next(node for node in cluster.nodes if node not in leaving and node.alive)
        wait_until(lambda: _agreed(stays), 20, "the nodes agree on the slots")  # noqa: B023
        redis_cli(
            "rebalance", stays.address, "--cluster-weight", f"{node_id(server)}=0", "--cluster-threshold", "1"
        )
        wait_until(lambda: _agreed(stays), 20, "the nodes agree on the slots")  # noqa: B023
        redis_cli("del-node", stays.address, node_id(server))
        server.terminate()


def _agreed(server: RedisServer) -> bool:
    line = ["redis-cli", "--cluster", "check", server.address]
    return subprocess.run(line, capture_output=True, timeout=patient(20)).returncode == 0


def _knows(server: RedisServer, nodes: int) -> bool:
    with server.client() as client:
        return int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"]) == nodes
