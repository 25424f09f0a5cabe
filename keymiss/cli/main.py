"""All subcommands. Exit codes: 0 done, 1 done in part or not (said why), 2 wrong use or settings.

What takes long to import, a command imports when it is called: `keymiss --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

import keymiss
from keymiss.cli import corpus, gears_commands, models_commands, start_stop
from keymiss.cli.ask import ask
from keymiss.cli.cluster_create import cluster_create
from keymiss.cli.doctor import doctor
from keymiss.cli.status import status
from keymiss.typer_app import typer_app

app = typer_app(help="Keymiss from the command line.", no_args_is_help=True, add_completion=True)
start_stop.add_to(app)
app.command()(status)
app.command()(doctor)
app.command()(ask)
corpus.add_to(app)
app.add_typer(gears_commands.app, name="gears")
app.add_typer(models_commands.app, name="models")
app.command("cluster-create")(cluster_create)


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
    """What is said before any command."""
