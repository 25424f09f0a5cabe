"""`keymiss models`: the command lines of keymiss/models, imported when called: torch takes long."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from keymiss.typer_app import typer_app

COMMANDS = {
    "load": "Store the reader on every master.",
    "load-encoder": "Store the encoder that makes vectors on every master.",
    "export": "Export a reader to a form that the worker runs.",
    "export-encoder": "Export the encoder to a form that the worker runs.",
    "train": "Train the embedded reader.",
    "train-split": "Train the split reader, in phases.",
    "calibrate": "Make a reader's score a probability.",
    "evaluate": "Measure how well questions are answered.",
}


class LaterCommand(TyperCommand):
    """Stands for the `app` of a module of keymiss.models until its arguments are read."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself."""
        app = import_module(f"keymiss.models.{str(self.name).replace('-', '_')}").app
        return get_command(app).make_context(info_name, args, parent, **extra)


class ModelCommands(TyperGroup):
    """COMMANDS as a group."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for name, what in COMMANDS.items():
            self.add_command(LaterCommand(name, callback=None, help=what))


app = typer_app(cls=ModelCommands, no_args_is_help=True)


@app.callback()
def root() -> None:
    """Readers and encoders: export, store, train, measure."""
