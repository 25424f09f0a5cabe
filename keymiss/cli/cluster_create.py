"""`keymiss cluster-create`: for nodes that somebody else started, as in the containers."""

from __future__ import annotations

from typing import Annotated

import typer

from keymiss.cli.common import addresses, fail, out
from keymiss.typer_app import Nodes, typer_app

app = typer_app()


@app.command()
def cluster_create(
    nodes: Nodes = "",
    replicas: Annotated[int, typer.Option(help="of each master", min=0, max=3)] = 1,
    timeout_s: Annotated[float, typer.Option(help="for the nodes to answer, and again to agree")] = 60.0,
) -> None:
    """Make empty nodes one cluster. The first become masters, the rest replicas; a cluster that is there
    already stays as it is. Waits until all of it works."""
    import redis

    from keymiss.local.cluster_creation import cluster_info, cluster_is_ok, create_cluster, wait
    from keymiss.local.processes import StartError

    named = addresses(nodes)
    masters, rest = divmod(len(named), 1 + replicas)
    if rest or not masters:
        fail(f"{len(named)} nodes cannot be masters with {replicas} replica(s) each", 2)
    try:
        wait(lambda: all(cluster_info(node) for node in named), timeout_s, "every node answers")
        how = "created" if create_cluster(named, masters) else "there already"
        wait(lambda: cluster_is_ok(named), timeout_s, "cluster_state:ok on every node")
    except (StartError, redis.RedisError, OSError) as error:
        fail(str(error))
    out.print(f"{masters} masters, {replicas} replica(s) each: cluster {how}")
