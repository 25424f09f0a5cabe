"""What the command lines of keymiss.models share: those of `keymiss models ...`.

Exit codes: 0 done, 1 a file, the model or the cluster is at fault (said in one line), 2 wrong use, 130
interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from keymiss.models.asking import processors

Data = Annotated[list[Path], typer.Argument(metavar="FILE", help="files in SQuAD format")]
Seed = Annotated[int, typer.Option(help="same seed, same data, same machine: same result")]
LearningRate = Annotated[float, typer.Option(help="the highest")]
CORES = processors()
Threads = Annotated[int, typer.Option(min=1, help="runs of the model at once")]


def choice(names: Iterable[str], what: str) -> Any:
    """An option that is one of `names`, which are known when the module is read."""
    known = list(names)

    def parse(text: str) -> str:
        if text not in known:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(known)}")
        return text

    return typer.Option(parser=parse, metavar="|".join(known), autocompletion=lambda: known, help=what)


OnDevice = Annotated[Literal["cpu", "cuda"] | None, typer.Option(help="default: a GPU if there is one")]


def device_of(given: str | None) -> str:
    """The device that is meant."""
    import torch

    return given or ("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def said_in_one_line(name: str, *faults: type[Exception]) -> Iterator[None]:
    """Ends the command with 1 for one of `faults`, and with 130 for Ctrl-C."""
    try:
        yield
    except faults as error:
        print(f"keymiss models {name}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print(f"keymiss models {name}: interrupted", file=sys.stderr)
        raise typer.Exit(130) from None
