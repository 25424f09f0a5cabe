"""All subcommands. Exit codes: 0 done, 1 done in part or not (said why), 2 wrong use or settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from keymiss.cli import corpus
from keymiss.cli.common import Nodes, cluster, fail, out, settings

app = typer.Typer(help="Keymiss from the command line.", no_args_is_help=True, pretty_exceptions_enable=False)
gears = typer.Typer(help="Gears functions.", no_args_is_help=True)
app.add_typer(gears, name="gears")
corpus.add_to(app)


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
    from keymiss.preflight import problems
    from keymiss.processes import Supervisor

    current = settings()
    if Supervisor(current).running():
        return
    found = problems(current)
    if found:
        fail("\n".join(found), 2)


@app.command()
def start() -> None:
    """Start the cluster, the worker, the API and nginx; says so when they are up already."""
    from keymiss.cluster import start as start_all
    from keymiss.processes import StartError

    current = settings()
    try:
        started = start_all(current, lambda text: out.print(text, markup=False))
    except StartError as error:
        fail(str(error))
    if not started:
        out.print(
            f"Keymiss is up already: https://localhost:{current.https_port}/ "
            "(scripts/status.sh says how it is)"
        )


@app.command()
def stop() -> None:
    """Stop what start started in this folder, and nothing else. The data stays."""
    from keymiss.processes import Supervisor

    out.print("Keymiss stopped." if Supervisor(settings()).stop() else "Keymiss is not running.")


@app.command()
def status() -> None:
    """Say how the processes and the nodes are. Exit code 1 when something does not run."""
    from keymiss.cluster import node_state
    from keymiss.processes import Supervisor

    current = settings()
    supervisor = Supervisor(current)
    if not supervisor.running():
        fail("Keymiss is not running: scripts/start.sh starts it.")
    states = supervisor.states()
    processes, shards = (
        Table("process", "state", ""),
        Table("port", "role", "slots", "keys", "memory MB", "workers"),
    )
    for name, (state, description) in states.items():
        processes.add_row(name, state, description)
    nodes = [node_state(current, port) for port in current.ports]
    for node in nodes:
        shards.add_row(
            str(node.port),
            node.role or node.error,
            str(node.slots),
            str(node.keys),
            f"{node.used_memory_bytes / 1e6:.0f}",
            str(node.workers),
        )
    out.print(processes)
    out.print(shards)
    if any(node.error for node in nodes) or any(state != "RUNNING" for state, _ in states.values()):
        raise typer.Exit(1)
