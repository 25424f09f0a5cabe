"""Export a reader, whole or split, to a form that the worker runs (forms.py): one file, or one of each half.

keymiss models export --model models/reader --form all
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from keymiss.models.command_line import choice, said_in_one_line
from keymiss.models.export import (
    DEFAULT_MODEL,
    FULL_SIZE_MODEL,
    Exported,
    Source,
    export_all,
    export_source,
    is_split,
)
from keymiss.models.fastest_form import fastest_form
from keymiss.models.forms import FORMS, ExportError
from keymiss.reading.reader import LOWER, UPPER
from keymiss.typer_app import exit_code, typer_app

app = typer_app()
DEFAULTS = "what this machine runs fastest of what loses at most 0.5 F1"

Export = Callable[[Path | None, str], tuple[Exported, bool]]
"""Makes one file, at (out) or at the place that is its own, in (form), and says whether it was made now."""


def files_to_export(source: Source) -> list[Export]:
    """The file of a whole reader, or the two of a split one, the lower first."""
    if not is_split(source.folder):
        return [partial(export_source, source)]
    from keymiss.models.export_halves import HalfSource  # torch too, which takes seconds

    return [partial(export_source, HalfSource(source, half)) for half in (LOWER, UPPER)]


def exports(model: str, form: str | None = None) -> list[Exported]:
    """The files of `model`, made where they are not there. ExportError if that cannot be."""
    source = Source(model)
    print(f"model: {source.chosen}")
    chosen = form or fastest_form(source)
    return [make(None, chosen)[0] for make in files_to_export(source)]


def exported_files(model: str, form: str | None = None) -> list[Path]:
    """Where they are."""
    return [Path(made.path) for made in exports(model, form)]


@app.command()
def command(
    model: Annotated[
        str, typer.Option(help=f"local folder or hub name; full size: {FULL_SIZE_MODEL}")
    ] = DEFAULT_MODEL,
    form: Annotated[
        str | None, choice([*FORMS, "all"], f"what the worker is to run; default: {DEFAULTS}")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="default: var/models/<name>.pt, .onnx, ...")] = None,
) -> None:
    """Export a reader to a form that the worker runs."""
    if out and form == "all":
        raise typer.BadParameter("--out is for one form")
    with said_in_one_line("export", ExportError):
        source = Source(model)
        forms = list(FORMS) if form == "all" else [form or fastest_form(source)]
    print(f"model: {source.chosen}", flush=True)
    for export_one in files_to_export(source):
        export_all("export", forms, partial(export_one, out))


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models export", arguments)


if __name__ == "__main__":
    sys.exit(main())
