"""Where the files are that Keymiss has besides its code, and where it keeps its state.

Keymiss needs functions, weights, sample articles, the module's sources, the page and templates. In a checkout
they are the folders beside keymiss/; a wheel has the same folders in keymiss/_files (pyproject.toml maps
them). So PROJECT / "gears" is right in both.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED_FILES = PACKAGE / "_files"
INSTALLED = INSTALLED_FILES.is_dir()
"""False in a checkout."""
PROJECT = INSTALLED_FILES if INSTALLED else PACKAGE.parent
"""The folder with acl, data, gears, grafana, models, module, nginx, prometheus."""


def default_var() -> Path:
    """Where the state is when KEYMISS_VAR says nothing: var in a checkout; else the user's folder for state
    (XDG Base Directory Specification), of root one that the processes' user can enter."""
    if not INSTALLED:
        return PROJECT / "var"
    given = Path(os.environ.get("XDG_STATE_HOME") or "")
    if given.is_absolute():
        return given / "keymiss"
    if os.geteuid() == 0:
        return Path("/var/lib/keymiss/var")
    return Path.home() / ".local" / "state" / "keymiss"


def sample_functions() -> list[Path]:
    """The functions that make The Pattern of a cluster, in the order they are registered in."""
    return sorted((PROJECT / "gears").glob("*.py"))
