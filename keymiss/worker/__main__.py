"""`python -m keymiss.worker`: the command line of the worker."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from keymiss.addresses import parse_addresses
from keymiss.for_good import for_good
from keymiss.typer_app import typer_app
from keymiss.worker.model_processes.start import found_library_process, socket_problem, start_library_process
from keymiss.worker.options import BEGUN_ANEW, WorkerOptions

app = typer_app()
DEFAULTS = WorkerOptions()


@app.command()
def worker(
    nodes: Annotated[
        str | None, typer.Option(help="host:port,... to start from; default: KEYMISS_NODES")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="serve this host's masters, others only while they have no worker")
    ] = DEFAULTS.local,
    job_threads: Annotated[
        int, typer.Option(min=1, max=512, help="jobs that run at once")
    ] = DEFAULTS.job_threads,
    model_threads: Annotated[
        int, typer.Option(min=1, max=512, help="model runs at once, one core each")
    ] = DEFAULTS.model_threads,
    model_limit_s: Annotated[
        float, typer.Option(min=0.1, max=86400, help="limit of a model run that no client waits for")
    ] = DEFAULTS.model_limit_s,
    job_limit_s: Annotated[
        float, typer.Option(min=0.1, max=86400, help="limit of the function of a key event")
    ] = DEFAULTS.job_limit_s,
    execute_timeout_s: Annotated[
        float, typer.Option(min=0.1, max=3600, help="limit of one command")
    ] = DEFAULTS.execute_timeout_s,
    grace_s: Annotated[
        float, typer.Option(min=0, max=3600, help="time to finish at SIGTERM")
    ] = DEFAULTS.grace_s,
    startup_s: Annotated[
        float, typer.Option(min=0, max=86400, help="wait for a first node so long")
    ] = DEFAULTS.startup_s,
    nice: Annotated[
        int, typer.Option(min=0, max=19, help="priority, so that the shards come first")
    ] = DEFAULTS.nice,
    preload: Annotated[
        bool, typer.Option(help="have the models' libraries ready before there is a model")
    ] = DEFAULTS.preload,
    library_socket: Annotated[
        Path | None,
        typer.Option(help="Unix socket where the next worker finds this one's libraries, if this one dies"),
    ] = None,
    backend: Annotated[
        Literal["torch", "dummy"], typer.Option(help="dummy needs no weights, for tests")
    ] = "torch",
    metrics_host: Annotated[str, typer.Option(help="where /metrics listens")] = DEFAULTS.metrics_host,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="port of /metrics; 0: none")
    ] = DEFAULTS.metrics_port,
    name: Annotated[
        str, typer.Option(help="this worker's name in the shards; default: host and process id")
    ] = "",
) -> None:
    """Run the jobs of a Keymiss cluster."""
    try:
        named = () if nodes is None else parse_addresses(nodes)
    except ValueError as error:
        raise typer.BadParameter(f"--nodes {error}") from None
    if library_socket is not None and (problem := socket_problem(library_socket)):
        raise typer.BadParameter(f"--library-socket {problem}")
    options = WorkerOptions(
        nodes=named,
        local=local,
        job_threads=job_threads,
        model_threads=model_threads,
        model_limit_s=model_limit_s,
        job_limit_s=job_limit_s,
        execute_timeout_s=execute_timeout_s,
        grace_s=grace_s,
        startup_s=startup_s,
        nice=nice,
        preload=preload,
        library_socket=library_socket,
        backend=backend,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        name=name or DEFAULTS.name,
    )
    if BEGUN_ANEW not in os.environ:
        os.nice(options.nice)
    started = found_library_process(library_socket) if library_socket else None
    if options.preload and started is None:
        with suppress(OSError):  # it is started again, and said, when a model comes
            started = start_library_process(options.backend, library_socket)
    with for_good():
        from keymiss.worker.lifecycle import main  # only now: the libraries are imported meanwhile
    raise typer.Exit(main(options, started))


if __name__ == "__main__":
    app(prog_name="python -m keymiss.worker")
