"""`keymiss models`: the command lines of keymiss/models."""

from __future__ import annotations

from keymiss.cli.later import later
from keymiss.typer_app import typer_app

COMMANDS = {
    "load": ("keymiss.models.load", "Store the reader on every master."),
    "load-encoder": ("keymiss.models.load_encoder", "Store the encoder that makes vectors on every master."),
    "export": ("keymiss.models.export_reader", "Export a reader to a form that the worker runs."),
    "export-encoder": ("keymiss.models.export_encoder", "Export the encoder to such a form."),
    "train": ("keymiss.models.train", "Train the embedded reader."),
    "train-split": ("keymiss.models.train_split", "Train the split reader, in phases."),
    "calibrate": ("keymiss.models.calibrate", "Make a reader's score a probability."),
    "calibrate-answers": (
        "keymiss.models.calibrate_answers",
        "Weigh what reader and retrieval say of an answer.",
    ),
    "evaluate": ("keymiss.models.evaluate", "Measure how well questions are answered."),
}

app = typer_app(cls=later(COMMANDS), no_args_is_help=True)


@app.callback()
def root() -> None:
    """Readers and encoders: export, store, train, measure."""
