"""How every command line of Keymiss is made: plain help, `-h` too, no traceback pages."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Nodes = Annotated[
    str,
    typer.Option(
        help="host:port,... of any nodes of the cluster; default: KEYMISS_NODES or the local cluster",
        show_default=False,
    ),
]


def typer_app(**more: Any) -> typer.Typer:
    """A command line without commands yet."""
    return typer.Typer(
        add_completion=more.pop("add_completion", False),
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **more,
    )


def exit_code(app: typer.Typer, name: str, arguments: list[str] | None) -> int:
    """What the command line ends with, with these arguments (None: the process's)."""
    try:
        app(arguments, prog_name=name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
