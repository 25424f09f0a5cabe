"""All subcommands. Exit codes: 0 done, 1 done in part or not (said why), 2 wrong use or settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import redis
import typer

from keymiss.cli import corpus
from keymiss.cli.common import Nodes, addresses, cluster, fail, out, runs, settings
from keymiss.cli.status import status

app = typer.Typer(help="Keymiss from the command line.", no_args_is_help=True, pretty_exceptions_enable=False)
gears = typer.Typer(help="Gears functions.", no_args_is_help=True)
app.add_typer(gears, name="gears")
corpus.add_to(app)
app.command()(status)


@gears.command()
def upload(
    files: Annotated[
        list[Path], typer.Argument(help="RedisGears Python scripts", exists=True, dir_okay=False)
    ],
    nodes: Nodes = "",
) -> None:
    """Run scripts by RG.PYEXECUTE on one master; what they register is registered on every master."""
    with cluster(nodes) as client:
        node = client.get_primaries()[0]
        for path in files:
            answer = client.execute_command("RG.PYEXECUTE", path.read_bytes(), target_nodes=node)
            if isinstance(answer, list) and len(answer) == 2 and answer[1]:
                fail(f"{path}: {answer[1][0].decode(errors='replace')}")
            out.print(f"{path}: done", markup=False)


@app.command()
def preflight() -> None:
    """Say what stands in the way of a start."""
    from keymiss.local.preflight import problems

    current = settings()
    if runs(current):
        return
    found = problems(current)
    if found:
        fail("\n".join(found), 2)


@app.command()
def start(
    observe: Annotated[
        bool, typer.Option("--observe", help="Prometheus, the Redis exporter and Grafana too")
    ] = False,
) -> None:
    """Start the cluster, the worker, the API and nginx; says so when they are up already."""
    from keymiss.local.hand_over import start_as
    from keymiss.local.process_user import process_user
    from keymiss.local.processes import StartError
    from keymiss.local.system import start as start_all

    current = settings()
    if observe:
        current = current.model_copy(update={"observe": True})
    try:
        if user := process_user(current):
            raise typer.Exit(start_as(user, current))
        os.umask(0o077)  # what is written from here on is for its owner only
        started = start_all(current, lambda text: out.print(text, markup=False))
    except StartError as error:
        fail(str(error))
    if not started:
        out.print(
            f"Keymiss is up already: https://localhost:{current.https_port}/ "
            "(scripts/status.sh says how it is)"
        )


@app.command("cluster-create")
def cluster_create(
    nodes: Nodes = "",
    replicas: Annotated[int, typer.Option(help="of each master", min=0, max=3)] = 1,
    timeout_s: Annotated[float, typer.Option(help="for the nodes to answer, and again to agree")] = 60.0,
) -> None:
    """Make empty nodes one cluster: the first become masters, the rest replicas. One that is there already
    stays as it is. Waits until all of it works."""
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


@app.command()
def stop() -> None:
    """Stop what start started in this folder, and nothing else. The data stays."""
    from keymiss.local.processes import Supervisor

    current = settings()
    runs(current)  # says so when it is somebody else's
    out.print("Keymiss stopped." if Supervisor(current).stop() else "Keymiss is not running.")
