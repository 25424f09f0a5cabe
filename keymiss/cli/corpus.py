"""The corpus: the concept table, how far the pipeline is, and what it is to look at again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from redis.cluster import RedisCluster
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from keymiss import keys
from keymiss.cli.common import cluster, errors, fail, out
from keymiss.cluster.redis_cluster import masters_of, shards_of
from keymiss.typer_app import Nodes, typer_app

PROCESS_TIMEOUT_S = 3600.0
Timeout = Annotated[float, typer.Option(help="seconds to wait at most")]
app = typer_app()
concepts = typer_app(help="The concept table.", no_args_is_help=True)
app.add_typer(concepts, name="concepts")


@app.command()
def wait(timeout_s: Timeout = PROCESS_TIMEOUT_S, nodes: Nodes = "") -> None:
    """Wait until the functions have done everything that waits."""
    with cluster(nodes) as client, _progress() as bar:
        _wait(client, bar, timeout_s)


@app.command()
def pipeline(nodes: Nodes = "") -> None:
    """Say how much of each stage is there, on every shard. The exit code is 1 when a shard evicted keys of
    articles, or may."""
    from keymiss.corpus.progress import GRAPH_CONCEPTS, counts, memory_of, waiting_on

    with cluster(nodes) as client:
        found, waiting, memory = counts(client), waiting_on(client), memory_of(client)
    for shard, numbers in found.items():
        numbers["events waiting"] = waiting[shard].events
    table = Table("", *(f"{{{shard.tag}}}" for shard in found), "all")
    for what in next(iter(found.values())):
        row = [numbers[what] for numbers in found.values()]
        total = "" if what == GRAPH_CONCEPTS else str(sum(row))  # one concept is on several shards
        table.add_row(what, *map(str, row), total)
    out.print(table)
    wrong = [f"shard {{{shard.tag}}}: {line}" for shard, each in memory.items() for line in each.problems()]
    for line in wrong:
        errors.print(line, style="red", markup=False)
    if wrong:
        raise typer.Exit(1)


@app.command()
def migrate(timeout_s: Timeout = PROCESS_TIMEOUT_S, nodes: Nodes = "") -> None:
    """Take over the data of an earlier layout, in which what was made of an article had its shard's tag. No
    file is read. May be done again, and while questions are answered; first: keymiss gears upload."""
    from keymiss.corpus.earlier_layout import drop_old_sums, old_articles, take_over

    with cluster(nodes) as client, _progress() as bar:
        articles = old_articles(client)
        task = bar.add_task("articles", total=len(articles))
        for article, tag in articles:
            take_over(client, article, tag)
            bar.advance(task)
        _wait(client, bar, timeout_s)
        dropped = drop_old_sums(client)
    out.print(f"{len(articles)} articles taken over, {dropped} keys of the old graph removed")


@app.command("catch-up")
def catch_up(nodes: Nodes = "") -> None:
    """Have the functions look at every key again and do what was missed, as when a worker starts."""
    from keymiss.corpus.catchup import catch_up as on_shard

    queued = 0
    with cluster(nodes) as client:
        for _, master in masters_of(client):
            queued += on_shard(lambda *command, master=master: _raw(master, command))
    out.print(f"{queued} events queued")


@concepts.command("load")
def load_concepts(
    file: Annotated[Path, typer.Argument(help="CSV with the columns id, name, synonyms (separated by |)")],
    nodes: Nodes = "",
) -> None:
    """Store a concept table on every shard; the functions then look at every sentence again. A broken row is
    named and left out; the exit code is 1 then."""
    from keymiss.corpus.concept_table import BadTable, read_table

    try:
        table, report = read_table(file)
    except BadTable as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{file}: {error.strerror}", 2)
    for fault in report.faults:
        errors.print(f"{file}: {fault}", style="red", markup=False)
    with cluster(nodes) as client:
        for shard in shards_of(client):
            key = keys.concept_table_key(shard.tag)
            if client.hget(key, "sha256") != table.digest.encode():
                client.hset(key, mapping={"sha256": table.digest, "csv": table.csv_text})
    out.print(
        f"{len(table)} concepts, {report.synonyms} synonyms; {report.rows_left_out} rows left out, "
        f"{len(report.faults)} faults; sha256 {table.digest[:12]}"
    )
    if report.faults:
        raise typer.Exit(1)


def _raw(shard: object, command: tuple[object, ...]) -> object:
    """A reply as it came: redis-py makes SCAN's a tuple of an integer and a list, which is as good."""
    return shard.execute_command(*command)  # type: ignore[attr-defined]


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=errors, disable=not sys.stderr.isatty())


def _wait(client: RedisCluster, bar: Progress, timeout_s: float) -> None:
    from keymiss.corpus.progress import PipelineStuck, wait_processed

    task = bar.add_task("processing (what waits)", total=None)
    most = 0

    def tell(left: int) -> None:
        nonlocal most
        most = max(most, left)
        bar.update(task, total=most, completed=most - left)

    try:
        wait_processed(client, timeout_s, tell)
    except PipelineStuck as error:
        fail(str(error))
