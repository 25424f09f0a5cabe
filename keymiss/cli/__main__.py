"""Where the command `keymiss` begins."""

from keymiss.cli.main import app


def main() -> None:
    """Ends the process with the command's exit code."""
    app(prog_name="keymiss")


if __name__ == "__main__":
    main()
