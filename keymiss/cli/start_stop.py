"""`keymiss up`, `down` and `watch`: the system on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from keymiss.cli.common import fail, out, runs, settings
from keymiss.settings import ServerKind, Settings
from keymiss.typer_app import typer_app

app = typer_app()
QUESTION = "Who performs viral transmission among adults?"
LOAD_TIMEOUT_S = 600.0
READY_TIMEOUT_S = 120.0


@app.command()
def up(
    masters: Annotated[int | None, typer.Option(help="as KEYMISS_MASTERS", show_default="as before")] = None,
    replicas: Annotated[int | None, typer.Option(help="of each master", show_default="as before")] = None,
    server: Annotated[
        ServerKind | None, typer.Option(help="the servers' program", show_default="redis")
    ] = None,
    observe: Annotated[
        bool, typer.Option("--observe", help="Prometheus, the Redis exporter and Grafana too")
    ] = False,
    tls: Annotated[
        bool | None,
        typer.Option(
            "--tls/--no-tls", help="the nodes speak TLS only; default: as before", show_default=False
        ),
    ] = None,
    load: Annotated[bool, typer.Option(help="store models and functions")] = True,
    sample: Annotated[
        bool | None,
        typer.Option(
            help="load the sample articles and ask; default: unless other articles are there",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start the system, fill it and ask a question. It starts the cluster, the worker, the API and nginx,
    stores models, functions and sample articles. What is there already stays: the second time is quick."""
    given = {
        "MASTERS": masters,
        "REPLICAS": replicas,
        "SERVER": server,
        "OBSERVE": "yes" if observe else None,
        "TLS": None if tls is None else "yes" if tls else "no",
    }
    os.environ |= {f"KEYMISS_{name}": str(value) for name, value in given.items() if value is not None}
    current = settings()
    _start(current)
    if load:
        asks = _fill(current, sample)
        if not _wait_until_ready(current, may_be_empty=sample is False):
            out.print(
                f"\nThere are no articles yet: keymiss load FILE... loads them. The page: {_url(current)}/"
            )
        elif asks:
            _ask(current)


@app.command()
def down() -> None:
    """Stop the system; the data stays. Only what `keymiss up` started with these settings is stopped."""
    from keymiss.local.processes import Supervisor

    current = settings()
    runs(current)  # says so when it is somebody else's
    out.print("Keymiss stopped." if Supervisor(current).stop() else "Keymiss is not running.")


@app.command()
def watch(
    here: Annotated[bool, typer.Option("--here", help="the live view in this terminal instead")] = False,
) -> None:
    """Open the page with the system's figures, and say where it is."""
    from keymiss.local.processes import Supervisor

    if here:
        from keymiss.cli.status import status

        status(watch=True)
    current = settings()
    if not runs(current):
        fail("Keymiss is not running: keymiss up --observe starts it.")
    if "prometheus" not in Supervisor(current).states():
        fail("Nothing keeps the figures yet: keymiss up --observe does, also beside a system that runs.")
    page = f"{_url(current)}/watch"
    out.print(page)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        typer.launch(page)


def _start(current: Settings) -> None:
    from keymiss.local.hand_over import start_as
    from keymiss.local.process_user import process_user
    from keymiss.local.processes import StartError
    from keymiss.local.system import start

    try:
        if user := process_user(current):
            if code := start_as(user, current):
                raise typer.Exit(code)
            return
        with _for_the_owner_only():
            started = start(current, lambda text: out.print(text, markup=False))
    except StartError as error:
        fail(str(error))
    if not started:
        out.print(f"Keymiss is up already: {_url(current)}/ (keymiss status says how it is)")


@contextmanager
def _for_the_owner_only() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _fill(current: Settings, sample: bool | None) -> bool:
    """Stores models, functions and the sample; False when the sample is not there."""
    from keymiss.cli.common import cluster
    from keymiss.cli.corpus import load_concepts, pipeline
    from keymiss.cli.gears_commands import upload
    from keymiss.cli.load_articles import load
    from keymiss.corpus.sample import CONCEPTS, FOLDER, may_be_loaded
    from keymiss.models.load import load as load_reader
    from keymiss.models.load_encoder import load_encoder

    nodes = current.nodes
    load_reader(model=current.model, nodes=nodes)
    load_encoder(nodes=nodes)
    upload(nodes=nodes)
    if sample is None:
        with cluster(nodes) as client:
            sample = may_be_loaded(client)
        if not sample:
            out.print("There are other articles: the sample is not loaded.")
    if sample:
        load_concepts(CONCEPTS, nodes=nodes)
        load([FOLDER], nodes=nodes, timeout_s=LOAD_TIMEOUT_S)
        pipeline(nodes=nodes)
    return sample


def _wait_until_ready(current: Settings, *, may_be_empty: bool) -> bool:
    """True when it is ready; False when only an article is missing, and `may_be_empty`."""
    from keymiss.api_shapes.health import NO_SENTENCES
    from keymiss.cli.ask import api
    from keymiss.client import KeymissError, Refused

    deadline = time.monotonic() + READY_TIMEOUT_S
    with api() as client:
        while True:
            try:
                client.ready()
                return True
            except KeymissError as error:
                missing = error.members.get("missing") if isinstance(error, Refused) else None
                if may_be_empty and missing == [NO_SENTENCES]:
                    return False
                if time.monotonic() > deadline:
                    fail(f"Not ready after {READY_TIMEOUT_S:.0f} s: {error}; see {current.log}.")
                time.sleep(1)


def _ask(current: Settings) -> None:
    from keymiss.cli.ask import ask

    out.print(f'\n$ keymiss ask "{QUESTION}"', markup=False)
    ask(QUESTION)
    out.print(f"\nThe page: {_url(current)}/   the API: {_url(current)}/docs   state and logs: {current.var}")


def _url(current: Settings) -> str:
    return f"https://localhost:{current.https_port}"
