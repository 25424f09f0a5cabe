"""`keymiss scale`: a master more or less in the system on this machine, while it answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from keymiss.cli.common import cluster, fail, out, runs, settings
from keymiss.settings import MOST_MASTERS, Settings
from keymiss.typer_app import typer_app

if TYPE_CHECKING:
    from keymiss.local.system import Say

app = typer_app(help="Add a master, remove one, even their slots out.", no_args_is_help=True)
WHOLE_S = 600.0
SAY_AGAIN_S = 10.0


@app.command()
def add() -> None:
    """Add a master, with as many replicas as the others have. It gets models, functions and its share of the
    slots while the system answers; ends when all is whole."""
    from keymiss.local.scaling import add_master

    before = _local("add")
    if before.masters == MOST_MASTERS:
        fail(f"There are {MOST_MASTERS} masters, and no more than that.")
    after = _with_masters(before.masters + 1)
    _scaled(lambda say: add_master(before, after, say), after)


@app.command()
def remove() -> None:
    """Remove a master: its slots go to the others, then the nodes of the last ports leave, with their
    data. The system answers meanwhile; ends when all is whole."""
    from keymiss.local.scaling import remove_master

    before = _local("remove")
    if before.masters == 1:
        fail("There is one master only.")
    after = _with_masters(before.masters - 1)
    os.environ["KEYMISS_MASTERS"] = str(before.masters)  # the nodes that leave are local ones until then
    _scaled(lambda say: remove_master(before, after, say), after)


@app.command()
def balance() -> None:
    """Give every master the same number of slots, and end moves that were interrupted."""
    from keymiss.local.scaling import balance as even_out

    current = _local("balance")
    _scaled(lambda say: even_out(current, say), current)


def _with_masters(number: int) -> Settings:
    os.environ["KEYMISS_MASTERS"] = str(number)
    return settings()


def _local(command: str) -> Settings:
    """The settings of the system that runs here. Exits if there is none, or another user has done it."""
    from keymiss.local.hand_over import command_as
    from keymiss.local.process_user import process_user
    from keymiss.local.processes import StartError

    current = settings()
    if current.nodes_given:
        fail(
            f"KEYMISS_NODES names the cluster, {current.nodes}: one that `keymiss up` did not start grows "
            "with redis-cli --cluster (docs/operations.md, Slots that move), in containers with another file "
            "for compose (docs/containers.md, More shards)."
        )
    if not runs(current):
        fail("Keymiss is not running here: keymiss up starts it.")
    if user := process_user(current):
        try:
            raise typer.Exit(command_as(user, current, "scale", command))
        except StartError as error:
            fail(str(error))
    return current


def _scaled(change: Callable[[Say], None], after: Settings) -> None:
    import redis

    from keymiss.local.processes import StartError

    began_s = time.monotonic()
    was_ready = _is_ready(after)

    def say(text: str) -> None:
        out.print(f"{time.monotonic() - began_s:6.1f} s  {text}", markup=False)

    try:
        change(say)
    except (StartError, redis.RedisError, OSError) as error:
        fail(str(error))
    _wait_whole(after, was_ready, say)
    say(f"{after.masters} masters, {after.replicas} replica(s) each, and all is whole")


def _is_ready(current: Settings) -> bool:
    from keymiss.local.system import http_ok

    return http_ok(f"https://localhost:{current.https_port}/readyz")


def _wait_whole(after: Settings, was_ready: bool, say: Say) -> None:
    """Every master has what each should have, replicas follow, nothing is missing or left of an article, the
    functions are done, and the API is ready if it was."""
    from keymiss.cli.cluster_checks import cluster_checks
    from keymiss.corpus.progress import PipelineStuck, wait_processed

    deadline_s, said_s = time.monotonic() + WHOLE_S, 0.0
    while True:
        with cluster(after.nodes) as client:
            try:
                wait_processed(client, WHOLE_S)
            except PipelineStuck as error:
                fail(str(error))
            checks, _ = cluster_checks(client)
        missing = [f"{check.what}: {check.problem}" for check in checks if check.problem]
        missing += ["the API is not ready yet"] if was_ready and not _is_ready(after) else []
        if not missing:
            return
        if time.monotonic() > deadline_s:
            fail("not whole: " + "; ".join(missing))
        if time.monotonic() - said_s > SAY_AGAIN_S:
            said_s = time.monotonic()
            say(f"waiting: {missing[0]}")
        time.sleep(1)
