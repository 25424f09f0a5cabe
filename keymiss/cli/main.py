"""All subcommands. Exit codes: 0 done, 1 done in part or not (said why), 2 wrong use or settings."""

from __future__ import annotations

from typing import Annotated

import typer

import keymiss
from keymiss.cli.later import later
from keymiss.typer_app import typer_app

COMMANDS = {
    "up": ("keymiss.cli.start_stop", "Start the system, fill it and ask a question."),
    "down": ("keymiss.cli.start_stop", "Stop the system; the data stays."),
    "scale": ("keymiss.cli.scale", "Add a master, remove one, even their slots out."),
    "status": ("keymiss.cli.status", "Say how the processes and the nodes are."),
    "doctor": ("keymiss.cli.doctor", "Say what is in the way on this machine."),
    "ask": ("keymiss.cli.ask", "Ask a question."),
    "load": ("keymiss.cli.load_articles", "Load articles, and wait until they are processed."),
    "concepts": ("keymiss.cli.corpus", "The concept table."),
    "wait": ("keymiss.cli.corpus", "Wait until the functions have done everything that waits."),
    "pipeline": ("keymiss.cli.corpus", "Say how much of each stage is there, on every shard."),
    "catch-up": ("keymiss.cli.corpus", "Have the functions look at every key again."),
    "migrate": ("keymiss.cli.corpus", "Take over the data of an earlier layout."),
    "gears": ("keymiss.cli.gears_commands", "Gears functions: upload, list, remove, logs."),
    "models": ("keymiss.cli.models_commands", "Readers and encoders: export, store, train, measure."),
    "watch": ("keymiss.cli.start_stop", "Open the page with the system's figures."),
    "cluster-create": ("keymiss.cli.cluster_create", "Make empty nodes one cluster."),
}

app = typer_app(
    cls=later(COMMANDS), help="Keymiss from the command line.", no_args_is_help=True, add_completion=True
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"keymiss {keymiss.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keymiss from the command line."""
