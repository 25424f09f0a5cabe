"""Where the command `keymiss` begins."""

from __future__ import annotations

import gc
import sys

from keymiss.cli.main import app


def main() -> None:
    """Ends the process with the command's exit code."""
    try:
        app(prog_name="keymiss")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("keymiss"):
            raise
        print(
            f"This needs the Python package {error.name}, of an extra that is not installed here: "
            "pip install 'keymiss[all]' (docs/operations.md has the extras).",
            file=sys.stderr,
        )
        sys.exit(2)
    finally:
        gc.freeze()  # the process ends: nothing needs to be collected


if __name__ == "__main__":
    main()
