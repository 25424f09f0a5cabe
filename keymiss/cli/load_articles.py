"""`keymiss load`: articles in, and waiting until the functions have done their work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from redis.cluster import RedisCluster

from keymiss.cli.common import cluster, errors, fail, out
from keymiss.cli.corpus import PROCESS_TIMEOUT_S, Timeout
from keymiss.cli.load_view import FILES, LoadView
from keymiss.corpus.article_file import name_in
from keymiss.corpus.article_files import ArticleFiles, Parse, by_article
from keymiss.corpus.left_to_do import LeftToDo
from keymiss.corpus.loading import LoadReport, Step, load_articles
from keymiss.corpus.paper_table import BadPapers, PaperTable, find_tables
from keymiss.corpus.progress import PipelineStuck, outcome_of, wait_processed
from keymiss.typer_app import Nodes, typer_app

EXAMPLES = 3
INTERRUPTED = 130
app = typer_app()


@app.command()
def load(
    folders: Annotated[
        list[Path], typer.Argument(help="folders with *.json articles (and their subfolders), or files")
    ],
    nodes: Nodes = "",
    metadata: Annotated[
        Path | None,
        typer.Option(
            help="CORD-19's metadata.csv; default: that in a folder that is loaded, or up to two above it",
            show_default=False,
        ),
    ] = None,
    process: Annotated[bool, typer.Option(help="wait until the functions have processed all")] = True,
    timeout_s: Timeout = PROCESS_TIMEOUT_S,
) -> None:
    """Load articles, and wait until they are processed. They are in the CORD-19 JSON format. What is wrong
    with a file, or left out of it, is named; the exit code is 1 when a file was. Interrupted, the same
    command goes on."""
    paths = _files(folders)
    with cluster(nodes) as client, LoadView() as view:
        report = LoadReport()
        parses = list(_looked_at(paths, view))
        with _tables(metadata, folders, {parse.name for parse in parses}, view) as tables:
            start, left = time.monotonic(), LeftToDo(client)
            try:
                _load(client, by_article(parses, tables), report, left, view, len(paths))
                _say_files(report)
                if process:
                    _wait(client, timeout_s, left, view, len(paths))
            except KeyboardInterrupt:
                fail(
                    f"Interrupted: {len(report.names)} articles are there, and the functions go on with "
                    "them. The same command goes on from here.",
                    INTERRUPTED,
                )
        skipped = process and _say_processed(client, report, time.monotonic() - start)
    if report.bad or skipped:
        raise typer.Exit(1)


def _files(folders: list[Path]) -> list[Path]:
    paths: list[Path] = []
    for folder in folders:
        found = [folder] if folder.is_file() else sorted(folder.rglob("*.json"))
        if not found:
            what = f"no *.json file in {folder}" if folder.is_dir() else f"no folder {folder}"
            fail(f"There is {what}.", 2)
        paths += found
    return list(dict.fromkeys(paths))


def _looked_at(paths: Sequence[Path], view: LoadView) -> Iterator[Parse]:
    """Each file's article, from its beginning."""
    for number, path in enumerate(paths, 1):
        yield Parse(path, name_in(path))
        if number % 100 == 0 or number == len(paths):
            view.at("looking at files", number, len(paths))


@contextmanager
def _tables(
    given: Path | None, folders: Sequence[Path], wanted: set[str], view: LoadView
) -> Iterator[list[PaperTable]]:
    """Those that can be read. One that was given and cannot ends the program with 2; one that was found is
    left aside, which is said."""
    tables: list[PaperTable] = []
    with ExitStack() as open_tables:
        for path in [given] if given else find_tables(folders):
            try:
                table = PaperTable(path, wanted, _bytes_of(path, view))
            except (BadPapers, OSError) as error:
                why = str(error) if isinstance(error, BadPapers) else f"{path}: {error.strerror}"
                if given:
                    fail(why, 2)
                errors.print(f"not used: {why}", style="yellow", markup=False)
            else:
                tables.append(open_tables.enter_context(closing(table)))
                _say_table(table)
        yield tables


def _bytes_of(path: Path, view: LoadView) -> Callable[[int], None]:
    size = path.stat().st_size if path.is_file() else 0
    return lambda offset: view.at(f"{path.name} (kB)", offset // 1000, size // 1000)


def _say_table(table: PaperTable) -> None:
    out.print(f"{table.path}: {table.rows:,} rows, {len(table)} of the files' articles", markup=False)
    for fault in table.faults:
        errors.print(f"{table.path}: {fault} (left out)", style="yellow", markup=False)
    if table.left_out > len(table.faults):
        errors.print(f"{table.path}: {table.left_out} rows left out in all", style="yellow", markup=False)


def _load(
    client: RedisCluster,
    articles: Sequence[ArticleFiles],
    report: LoadReport,
    left: LeftToDo,
    view: LoadView,
    n_files: int,
) -> None:
    done = 0

    def went_on(step: Step) -> None:
        nonlocal done
        done += step.files
        view.at(FILES, done, n_files)
        left.add(step)
        if left.look():
            view.left(left.stages(), (done, n_files))

    load_articles(client, articles, report, went_on)


def _say_files(report: LoadReport) -> None:
    for path, why in report.bad:
        errors.print(f"skipped {path}: {why}", style="red", markup=False)
    for path, note in report.notes:
        errors.print(f"{path}: {note}", style="yellow", markup=False)
    said = [f"{len(report.replaced)} of those written replaced what was there"] if report.replaced else []
    if report.other_parses:
        said.append(
            f"{len(report.other_parses)} files left aside: another parse of an article, pmc_json first: "
            + _some([f"{path} ({better})" for path, better in report.other_parses])
        )
    if report.renamed:
        removed = _some([f"{old} (now {new})" for old, new in report.renamed])
        said.append(f"{len(report.renamed)} articles removed that had been loaded by another name: {removed}")
    out.print(
        f"{len(report.names)} articles, {report.bytes / 1e6:.2f} MB: {len(report.written)} written, "
        f"{len(report.names) - len(report.written)} as before, {len(report.bad)} files skipped",
        *said,
        sep="\n",
        markup=False,
    )


def _some(what: Sequence[str]) -> str:
    return ", ".join(what[:EXAMPLES]) + (", ..." if len(what) > EXAMPLES else "")


def _wait(client: RedisCluster, timeout_s: float, left: LeftToDo, view: LoadView, n_files: int) -> None:
    most = 0

    def tell(events: int) -> None:
        nonlocal most
        most = max(most, events)
        if left.look():
            view.left(left.stages(), (n_files, n_files))
            view.at("jobs", most - events, most)

    try:
        wait_processed(client, timeout_s, tell)
    except PipelineStuck as error:
        fail(str(error))


def _say_processed(client: RedisCluster, report: LoadReport, took_s: float) -> bool:
    """What came of the articles; whether one was skipped."""
    outcome = outcome_of(client, report.names)
    for name, why in outcome.skipped:
        errors.print(f"skipped article {name}: {why}", style="red", markup=False)
    for name, what in outcome.left_out:
        errors.print(f"article {name}: paragraphs left out by language: {what}", style="yellow", markup=False)
    if outcome.unprocessed:
        fail(
            f"{len(outcome.unprocessed)} articles were not split, {outcome.unprocessed[0]} for one: "
            "are the functions registered (keymiss gears upload)?"
        )
    done = outcome_of(client, report.written).sentences
    reasons = Counter(why for _, why in outcome.skipped)
    out.print(
        f"{outcome.sentences} sentences, {done} of them processed now, in {took_s:.2f} s: "
        f"{done / took_s:.0f} sentences/s",
        *(f"{n} articles skipped: {why}" for why, n in reasons.most_common()),
        sep="\n",
        markup=False,
    )
    return bool(outcome.skipped)
