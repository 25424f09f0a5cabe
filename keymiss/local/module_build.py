"""The module that the shards load: built from the sources in module/ by make, where that is needed.

A checkout builds it in its own folder, as its makefile does; an installed Keymiss in var/module, from a copy.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
from pathlib import Path

from keymiss.resources import INSTALLED, PROJECT
from keymiss.settings import Settings

SOURCES = PROJECT / "module"


def module_file(settings: Settings) -> Path:
    """The module, built or not."""
    return (settings.var / "module" if INSTALLED else SOURCES) / "keymiss.so"


def module_problem(settings: Settings) -> str:
    """What stands in the way of having the module, "" when nothing does."""
    lacks = [name for name in ("make", "gcc") if not shutil.which(name)]
    if module_file(settings).exists() or not lacks:
        return ""
    return (
        f"The module for the servers is not built yet, and building it needs {' and '.join(lacks)}: install "
        "make, gcc and libc6-dev with your package manager."
    )


def build_module(settings: Settings) -> str:
    """Brings the module up to date; says why that was not possible, "" when it was."""
    if not (SOURCES / "Makefile").exists():  # a copy of the project has the module only
        return ""
    folder = module_file(settings).parent
    if folder != SOURCES:
        _copy_sources(folder)
    if module_file(settings).exists() and not shutil.which("make"):
        return ""
    made = subprocess.run(["make", "-s", "-C", str(folder)], capture_output=True, text=True)
    return f"The module did not build: {made.stderr.strip()[-1000:]}" if made.returncode else ""


def _copy_sources(folder: Path) -> None:
    """Only what changed is new to make: the files of a wheel all have an old date."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES.iterdir():
        copy = folder / source.name
        if source.is_file() and not (copy.exists() and filecmp.cmp(source, copy, shallow=False)):
            shutil.copyfile(source, copy)
