"""The benchmark: one command, a table, JSON and plots.

    .venv/bin/python scripts/bench.py --out DIR              # all of it, about an hour
    .venv/bin/python scripts/bench.py --out DIR --quick      # does all of it run? The figures say nothing
    .venv/bin/python scripts/bench.py --out DIR --only fresh,cached --rounds 3
    .venv/bin/python scripts/bench.py --out DIR --docs       # puts the run in DIR into docs/benchmarks.md

Starts servers, worker, API and nginx of its own on free loopback ports, and stops them. What each row means:
docs/benchmarks.md. results.json is written after each section. Exit codes: 0 measured (whether goals are met
is in the table), 1 something failed, 2 wrong use.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from keymiss.models.forms import ExportError  # noqa: E402
from scripts.benchmarks.docs_page import put_into_docs  # noqa: E402
from scripts.benchmarks.failure import BenchFailed  # noqa: E402
from scripts.benchmarks.figures import Results  # noqa: E402
from scripts.benchmarks.options import FULL, QUICK, SECTIONS, Options  # noqa: E402
from scripts.benchmarks.plots import draw, pyplot  # noqa: E402
from scripts.benchmarks.table import terminal  # noqa: E402

HAYSTACK = REPO / ".venv-haystack"
SET_UP_LIMIT_S = 1800
WIDTH = 200
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def sections(only: str) -> frozenset[str]:
    """Those that are named, or all."""
    named = frozenset(filter(None, (name.strip() for name in only.split(","))))
    if unknown := sorted(named - SECTIONS.keys()):
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    return named or frozenset(SECTIONS)


def haystack_python() -> Path:
    """Of its environment, made from its lock file."""
    done = subprocess.run(
        ["bash", "-c", f"source '{REPO}/scripts/setup.sh' && set_up_haystack"], timeout=SET_UP_LIMIT_S
    )
    if done.returncode:
        raise SystemExit("Haystack could not be installed: see above, or leave out --haystack.")
    return HAYSTACK / "bin" / "python"


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="folder for results.json and the plots")],
    only: Annotated[str, typer.Option(help=f"of {','.join(SECTIONS)}; default: all")] = "",
    rounds: Annotated[int, typer.Option(min=0, help="of each rate; 0: as many as it has by default")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="as little as possible of everything")] = False,
    articles: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="more articles (CORD-19 JSON); may be given again"),
    ] = None,
    model: Annotated[str, typer.Option(help="the reader")] = "models/reader",
    form: Annotated[str, typer.Option(help="default: the fastest one here")] = "",
    masters: Annotated[int, typer.Option(min=1)] = 4,
    replicas: Annotated[int, typer.Option(min=0, help="of each master")] = 1,
    before: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="another build of the module, for the hits"),
    ] = None,
    haystack: Annotated[bool, typer.Option("--haystack", help="also Haystack, in .venv-haystack")] = False,
    large: Annotated[bool, typer.Option("--large", help="also 24 layers of 1024, random weights")] = False,
    plots: Annotated[bool, typer.Option(help="draw them")] = True,
    docs: Annotated[bool, typer.Option("--docs", help="only put the run in --out into docs/")] = False,
) -> None:
    """The benchmark: a table, JSON and plots."""
    try:
        if docs:
            for path in put_into_docs(out):
                print(path.relative_to(REPO))
            return
        size = QUICK if quick else FULL
        size = replace(size, rounds=rounds, questions=max(2, 6 * rounds)) if rounds else size
        wanted = sections(only)
        if plots:
            pyplot()  # before an hour is spent
        options = Options(
            wanted,
            size,
            model,
            form,
            2 if quick else masters,
            0 if quick else replicas,
            tuple(articles or ()),
            before,
            haystack_python() if haystack else None,
            large,
        )
        measure(options, out, plots)
    except (BenchFailed, ExportError, FileNotFoundError) as error:
        raise SystemExit(f"bench.py: {error}") from None


def measure(options: Options, out: Path, plots: bool) -> None:
    """Runs it, and writes what came of it."""
    from scripts.benchmarks.run import run  # starts the measuring of how slow this machine is

    out.mkdir(parents=True, exist_ok=True)
    console = Console(width=WIDTH, highlight=False)

    def kept(results: Results, section: str) -> None:
        results.save(out / "results.json")
        print(f"measured: {section}", file=sys.stderr, flush=True)

    results = run(options, kept)
    results.save(out / "results.json")
    console.print(terminal(results))
    if plots:
        for path in draw(results, out):
            print(path)
    print(out / "results.json")


if __name__ == "__main__":
    app()
