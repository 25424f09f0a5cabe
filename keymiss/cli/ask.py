"""`keymiss ask`: a question, by the HTTP API."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keymiss.cli.common import fail, out, settings
from keymiss.keys import SENTENCE_PREFIX
from keymiss.typer_app import typer_app

if TYPE_CHECKING:
    from rich.text import Text

    from keymiss.client import Answers, Client, Passage, Result, Source

app = typer_app()

Url = Annotated[
    str, typer.Option(help="of the API; default: the local system", show_default=False, envvar="KEYMISS_URL")
]


def year_range(text: str) -> tuple[int | None, int | None]:
    """``2019-2021``, ``2019-``, ``-2021`` or ``2020`` as its first and last year; exit 2 when it is none."""
    found = re.fullmatch(r"(\d{1,4})?(-)?(\d{1,4})?", text.replace(" ", ""), re.ASCII)
    first, dash, last = found.groups() if found else (None, None, None)
    if not (first or last) or (first and last and not dash):
        fail(f"--years {text!r} is no range of years: 2019-2021, 2019-, -2021 or 2020", 2)
    if not dash:
        last = first
    return (int(first) if first else None, int(last) if last else None)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="in English")],
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100, help="answers to show")] = 1,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="of the reader, for an answer to be shown; default: the API's"),
    ] = None,
    years: Annotated[
        str | None, typer.Option(metavar="FROM-TO", help="search only these: 2019-2021, 2019-, -2021, 2020")
    ] = None,
    articles: Annotated[
        list[str] | None, typer.Option("--article", help="search only this one; may be given again")
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="read all that is found, however far behind")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the API's whole reply")] = False,
    url: Url = "",
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file to trust; default: the local system's own")
    ] = None,
    insecure: Annotated[bool, typer.Option("-k", "--insecure", help="trust any certificate")] = False,
) -> None:
    """Ask a question. Exit code 1 when there is no answer, or the API is away."""
    from keymiss.client import BadRequest, KeymissError, Unreachable

    bounds = None if years is None else year_range(years)
    with api(url, certificate, insecure) as client:
        try:
            reply = client.ask(
                question,
                limit=limit,
                min_score=min_score,
                years=bounds,
                articles=articles or None,
                exhaustive=exhaustive,
            )
        except BadRequest as error:
            fail(str(error), 2)
        except Unreachable as error:
            fail(str(error) if url else f"{error}. Is it started (keymiss up)?")
        except KeymissError as error:
            fail(str(error))
    if as_json:
        print(reply.model_dump_json(indent=2))
    else:
        _show(reply, limit)
    if not reply.found:
        raise typer.Exit(1)


@contextmanager
def api(url: str = "", certificate: Path | None = None, insecure: bool = False) -> Iterator[Client]:
    """A client of the API at `url`; exit 2 when it cannot be made."""
    from keymiss.client import Client

    current = settings()
    own = current.var / "tls" / "cert.pem"
    if not (url or certificate or insecure):
        if not os.access(own, os.R_OK):
            fail(f"{own} is not there, or not yours to read: keymiss up, or ask with --insecure.", 2)
        certificate = own
    verify: bool | Path = False if insecure else certificate or True
    try:
        client = Client(url or f"https://localhost:{current.https_port}", verify=verify)
    except (ValueError, OSError) as error:
        fail(str(error), 2)
    with client:
        yield client


def _show(reply: Answers, limit: int) -> None:
    if not reply.found:
        out.print(reply.message or "There is no answer.", markup=False)
        _show_closest(reply.closest)
    for result in reply.results:
        out.print(result.answer, style="bold", markup=False)
        out.print(_marked(result))
        out.print(f"  score {result.score:.2f}")
        for source in result.sources:
            out.print(_where(source), style="dim", markup=False)
    sentences, unused = reply.coverage.sentences, reply.coverage.unused
    if sentences.answered < sentences.asked:
        out.print(f"{sentences.answered} of {sentences.asked} sentences were read in time.", style="yellow")
    if sentences.unread and len(reply.results) < limit:
        out.print(f"{sentences.unread} more were found and not read: --exhaustive.")
    for one in unused:
        out.print(f"Searched without {one.signal}: {one.reason}.", style="yellow", markup=False)


def _show_closest(passages: Sequence[Passage]) -> None:
    if passages:
        out.print("Closest passages:", style="bold")
    for passage in passages:
        out.print(f"  {passage.sentence}", markup=False)
        out.print(f"{_where(passage)}  {passage.retrieval_score:.2f}", style="dim", markup=False)


def _where(source: Source | Passage) -> str:
    year = f", {source.year}" if source.year else ""
    return f"  {source.title or source.article}{year} ({source.sentencekey.removeprefix(SENTENCE_PREFIX)})"


def _marked(result: Result) -> Text:
    """The sentence, its answer highlighted."""
    from rich.text import Text

    text = Text(result.sentence)
    if result.start is not None and result.end is not None:
        text.stylize("bold reverse", result.start, result.end)
    return Text("  ") + text
