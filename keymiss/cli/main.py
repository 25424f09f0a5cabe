"""All subcommands. Exit codes: 0 done, 1 done in part or not (said why), 2 wrong use or settings."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import redis
import typer
from redis.cluster import ClusterNode, RedisCluster
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from keymiss.settings import BadSetting, Settings, parse_nodes

app = typer.Typer(help="Keymiss from the command line.", no_args_is_help=True, pretty_exceptions_enable=False)
gears = typer.Typer(help="Gears functions.", no_args_is_help=True)
app.add_typer(gears, name="gears")
errors = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)

SCRIPT_TIMEOUT_S = 600.0
Nodes = Annotated[
    str, typer.Option(help="host:port,host:port,...; default: KEYMISS_NODES or the local cluster")
]


def fail(text: str, code: int = 1) -> NoReturn:
    """Ends the program with a sentence on stderr."""
    errors.print(text, style="red", markup=False)
    raise typer.Exit(code)


def settings() -> Settings:
    """The settings from the environment; exit 2 on a bad one."""
    try:
        return Settings.from_env()
    except BadSetting as error:
        fail(str(error), 2)


@contextmanager
def cluster(nodes: str) -> Iterator[RedisCluster]:
    """A client of the cluster; a lost connection is one sentence and exit 1."""
    try:
        pairs = parse_nodes(nodes or settings().nodes)
    except BadSetting as error:
        fail(str(error), 2)
    try:
        with RedisCluster(
            startup_nodes=[ClusterNode(*pair) for pair in pairs],
            protocol=2,
            socket_timeout=SCRIPT_TIMEOUT_S,
            socket_connect_timeout=5,
        ) as client:
            yield client
    except (redis.ConnectionError, redis.TimeoutError) as error:
        fail(f"No answer from the cluster: {error}. Is it started (scripts/start.sh)?")
    except redis.RedisError as error:
        fail(f"The cluster refused: {error}")


@app.command()
def load(
    folders: Annotated[
        list[Path], typer.Argument(help="folders with *.json articles (and their subfolders), or files")
    ],
    nodes: Nodes = "",
) -> None:
    """Load articles in the CORD-19 JSON format. A bad file is named and skipped; the exit code is 1 then."""
    from keymiss.loading import load_files

    paths = []
    for folder in folders:
        found = [folder] if folder.is_file() else sorted(folder.rglob("*.json"))
        if not found:
            fail(
                f"There is no *.json file in {folder}."
                if folder.is_dir()
                else f"There is no folder {folder}.",
                2,
            )
        paths += found
    bar = Progress(
        TextColumn("loading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[name]}"),
        console=errors,
        disable=not sys.stderr.isatty(),
    )
    with cluster(nodes) as client, bar:
        task = bar.add_task("load", total=len(paths), name="")
        report = load_files(client, paths, lambda path: bar.update(task, advance=1, name=path.name))
    for path, why in report.bad:
        errors.print(f"skipped {path}: {why}", style="red", markup=False)
    out.print(
        f"{report.articles} articles, {report.sentences} sentences: {report.written} written, "
        f"{report.removed} removed, {len(report.bad)} files skipped"
    )
    if report.bad:
        raise typer.Exit(1)


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


@app.command("wait-tokenized")
def wait_tokenized(
    timeout_s: Annotated[float, typer.Option(help="seconds to wait at most")] = 300.0, nodes: Nodes = ""
) -> None:
    """Wait until every sentence on every shard has its tensor."""
    from keymiss.keys import SENTENCE_PREFIX, TOKENIZED_PREFIX

    deadline = time.monotonic() + timeout_s
    with cluster(nodes) as client:
        while True:
            sentences = tensors = 0
            for node in client.get_primaries():
                shard = client.get_redis_connection(node)
                sentences += sum(
                    shard.hlen(key) for key in shard.scan_iter(f"{SENTENCE_PREFIX}*", count=1000)
                )
                tensors += sum(1 for _ in shard.scan_iter(f"{TOKENIZED_PREFIX}*", count=1000))
            if tensors >= sentences:
                out.print(f"{sentences} sentences, {tensors} tensors")
                return
            if time.monotonic() > deadline:
                fail(
                    f"Only {tensors} of {sentences} sentences are tokenized after {timeout_s:.0f} s; "
                    "see the worker's log."
                )
            time.sleep(0.5)


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
