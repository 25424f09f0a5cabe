"""Commands that are imported when they are called, so that `keymiss --help` answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from keymiss.for_good import for_good


class LaterCommand(TyperCommand):
    """Stands for the `app` of a module, or the command of that name in it, until arguments are read."""

    def __init__(self, name: str, module: str, what: str) -> None:
        super().__init__(name, help=what)
        self.module = module

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself."""
        with for_good():
            module = import_module(self.module)
        command = get_command(module.app)
        command = getattr(command, "commands", {}).get(self.name, command)
        return command.make_context(info_name, args, parent, **extra)


def later(commands: Mapping[str, tuple[str, str]]) -> type[TyperGroup]:
    """A group of commands: name -> (module, what it does)."""

    class Later(TyperGroup):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            for name, (module, what) in commands.items():
                self.add_command(LaterCommand(name, module, what))

    return Later
