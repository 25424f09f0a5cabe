"""How well questions of SQuAD-format files are answered: exact match and F1, in one table.

    keymiss models evaluate eager         --model models/reader         FILE...
    keymiss models evaluate exported      --model var/models/reader.int8.pt  FILE...
    keymiss models evaluate cluster       --nodes 127.0.0.1:30001       FILE...
    keymiss models evaluate retrieval     --url https://localhost:8080  FILE...
    keymiss models evaluate front-door    --url https://localhost:8080  FILE...
    keymiss models evaluate answerability --model models/reader         FILE...

The same questions, put to the Hugging Face model, to an exported file by the worker's own backends, to a
running cluster (each paragraph is a "sentence", asked by GET of bertspan...), and to /qasearch (which has to
find the sentence too). `front-door`: /qasearch again, of whole articles that are loaded as all articles are;
also how well it says that it is not sure. `answerability`: whether the score tells the sentence that answers
from others of its article.

What is written into the cluster is named evaluate-<run>-... and removed at the end, after Ctrl-C too.
Questions are of the held-out part (squad.split) if not told otherwise. What could not be put counts as
wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import redis
import typer
from redis.exceptions import RedisClusterException
from rich.console import Console

from keymiss import keys
from keymiss.environment import BadSetting
from keymiss.models import squad
from keymiss.models.answerability import answerability
from keymiss.models.asking import EvaluateError, Given, Item, Part, in_threads, part_of, processors, scores
from keymiss.models.by_cluster import ASK_LIMIT_S, Visit, by_cluster, visiting
from keymiss.models.by_model import by_model, open_model
from keymiss.models.by_search import RECALL_AT, Search, by_search, recalls
from keymiss.models.command_line import CORES, Data, Threads, said_in_one_line
from keymiss.models.export import DEFAULT_MODEL, ExportError, default_out, form_of
from keymiss.models.front_door import front_door, with_whole_file
from keymiss.models.tables import SHOWN, plain_or_terminal, show, show_problems
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.reader import Reader
from keymiss.resources import PROJECT
from keymiss.settings import Settings
from keymiss.typer_app import Nodes, exit_code, typer_app

app = typer_app()


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how; each of the ways needs some of it."""

    way: str
    data: list[Path]
    part: str
    limit: int | None
    model: str = ""
    threads: int = 1
    negatives: int = 1
    nodes: str = ""
    url: str = ""
    against: str | None = None
    at_once: int = 1
    corpus: str = "part"
    refusal: bool = False


def show_differences(
    console: Console, items: Sequence[Item], one: Sequence[Given], other: Sequence[Given]
) -> float:
    """How many percent of the answers are the same text; the first that are not."""
    rows = list(zip(items, one, other, strict=True))
    differ = [row for row in rows if row[1].answer != row[2].answer or row[1].problem or row[2].problem]
    same = 100 * (1 - len(differ) / len(rows))
    console.print(f"the same answer to {len(rows) - len(differ)} of {len(rows)} questions ({same:.1f} %)")
    for item, here, there in differ[:SHOWN]:
        said = [f"{given.answer!r} ({given.score:.3f}){given.problem}" for given in (here, there)]
        console.print(
            f"  {item.question.question}\n    {said[0]}\n    {said[1]}", markup=False, soft_wrap=True
        )
    return same


def evaluate(options: Options, console: Console) -> dict[str, Any]:
    """Run one of the ways on every file, print its table; the figures."""
    parts = [part_of(path, options.part, options.limit) for path in options.data]
    way: str = options.way
    if way in ("eager", "exported") and Path(options.model).is_file() != (way == "exported"):
        raise EvaluateError(f"{options.model} is not what `{way}` takes")
    if way == "answerability":
        return _answerability(options, parts, console)
    if way == "front-door":
        return _front_door(options, parts, console)
    rows: dict[str, dict[str, Any]] = {}
    all_items: list[Item] = []
    everything: list[Given] = []
    model = open_model(options.model) if options.model else None
    for part in parts:
        given, more = _one_part(options, part, model, console)
        rows[part.name] = asdict(scores(part.items, given)) | more
        all_items, everything = all_items + part.items, everything + given
    if len(parts) > 1:
        more = recalls(all_items, everything) if way == "retrieval" else {}
        rows["all"] = asdict(scores(all_items, everything)) | more
    show_problems(console, [one.problem for one in everything])
    show(console, _title(options), [{"file": name} | row for name, row in rows.items()], _columns(way, rows))
    return {"way": way, "part": options.part, "files": rows}


def _one_part(
    options: Options, part: Part, model: tuple[Model, Reader] | None, console: Console
) -> tuple[list[Given], dict[str, Any]]:
    """The answers of one part, and what else is known of them."""
    if options.way in ("eager", "exported"):
        assert model
        return in_threads(by_model(*model), part.items, options.threads, part.name, torch=True), {}
    with visiting(options.nodes) as visit:
        if options.way == "retrieval":
            return _searched(options, part, visit, console)
        way = by_cluster(visit, part)
        given = in_threads(way, part.items, options.at_once, part.name, torch=False)
    if not model:
        return given, {}
    other = in_threads(by_model(*model), part.items, processors(), options.against or "", torch=True)
    console.print(f"{part.name}: the cluster, and {options.against} {options.model}")
    return given, {"same_answer": show_differences(console, part.items, given, other)}


def _searched(
    options: Options, part: Part, visit: Visit, console: Console
) -> tuple[list[Given], dict[str, Any]]:
    """Ask /qasearch, and say among what it had to find the paragraphs."""
    with httpx.Client(base_url=options.url, verify=False, timeout=ASK_LIMIT_S) as http:  # self-signed
        search = Search(http)
        search.check()
        others = sum(1 for _ in visit.scan(f"{keys.SENTENCE_PREFIX}*"))
        visit.will_ask({" ".join(item.question.question.split()) for item in part.items})
        way = by_search(search, visit, part)
        given = in_threads(way, part.items, options.at_once, part.name, torch=False)
    console.print(
        f"{part.name}: /qasearch asked at most {search.asked} sentences a question "
        f"(KEYMISS_API_CANDIDATES_PER_SHARD on each shard) and gave at most {search.results} results "
        f"(KEYMISS_API_RESULTS): recall is among those.",
        soft_wrap=True,
    )
    if search.answered < search.sentences:
        console.print(
            f"Only {search.answered} of {search.sentences} sentences were answered within "
            "KEYMISS_API_TIME_LIMIT_S: on a machine that is less busy the figures may be better.",
            soft_wrap=True,
        )
    if others:
        console.print(f"{others} articles that were loaded before compete with this corpus.")
    counts = {name: getattr(search, name) for name in ("asked", "results", "sentences", "answered")}
    return given, recalls(part.items, given) | counts | {"competing": others}


def _title(options: Options) -> str:
    what = {"cluster": "nodes", "retrieval": "url"}.get(options.way, "model")
    return f"{options.way} {getattr(options, what)}, {options.part} questions"


def _columns(way: str, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    columns = {"file": "file", "questions": "questions", "exact": "EM", "f1": "F1", "ms": "ms a question"}
    if way == "retrieval":
        columns |= {f"recall_{at}": f"recall {at}" for at in RECALL_AT}
    if any(row["failed"] for row in rows.values()):
        columns["failed"] = "not put"
    if any(row["unanswerable"] for row in rows.values()):
        columns |= {"unanswerable": "unanswerable", "refused": "score < 0.5"}
    return columns


def _answerability(options: Options, parts: list[Part], console: Console) -> dict[str, Any]:
    model, reader = open_model(options.model)
    kind = (options.negatives, options.threads)
    rows = {part.name: answerability(model, reader, part, *kind) for part in parts}
    headings = {"file": "file", "questions": "questions", "left_out": "left out", "random_clean": "random"}
    headings |= {"random_any": "random, as drawn", "hard_clean": "hard", "hard_any": "hard, as found"}
    title = f"right sentence's score higher, % of pairs: {options.model}, {options.part} questions"
    show(console, title, [{"file": name} | row for name, row in rows.items()], headings)
    console.print(
        "random, hard: not one that holds an answer too. hard: the best by BM25. left out: no sentence "
        "holds the whole answer.",
        soft_wrap=True,
    )
    return {"way": options.way, "part": options.part, "negatives": options.negatives, "files": rows}


def _front_door(options: Options, parts: list[Part], console: Console) -> dict[str, Any]:
    rows = {}
    for path, part in zip(options.data, parts, strict=True):
        loaded = with_whole_file(path, part) if options.corpus == "file" else part
        how = (options.refusal, options.at_once)
        rows[part.name] = front_door(options.url, options.nodes, loaded, *how, console)
    return {"way": options.way, "part": options.part, "corpus": options.corpus, "files": rows}


OfPart = Annotated[Literal["held-out", "calibration", "train", "all"], typer.Option(help="of each file")]
Limit = Annotated[int | None, typer.Option(min=1, help="questions of each file, drawn with a fixed seed")]
Figures = Annotated[Path | None, typer.Option("--json", help="write the figures there")]
OfModel = Annotated[str, typer.Option(help="local folder, hub name or exported file")]
Url = Annotated[str, typer.Option(help="of the API")]
AtOnce = Annotated[int, typer.Option(min=1, help="questions asked at the same time")]


@app.command()
def eager(
    data: Data,
    model: OfModel = DEFAULT_MODEL,
    threads: Threads = CORES,
    part: OfPart = "held-out",
    limit: Limit = None,
    figures: Figures = None,
) -> None:
    """By the Hugging Face model."""
    _carry_out(Options("eager", data, part, limit, model=model, threads=threads), figures)


@app.command()
def exported(
    data: Data,
    model: Annotated[str, typer.Option(help="exported file; default: that of models/reader")] = "",
    threads: Threads = CORES,
    part: OfPart = "held-out",
    limit: Limit = None,
    figures: Figures = None,
) -> None:
    """By an exported file, run as the worker does."""
    with said_in_one_line("evaluate", ExportError):
        file = model or str(default_out(DEFAULT_MODEL, form_of(PROJECT / DEFAULT_MODEL)))
    _carry_out(Options("exported", data, part, limit, model=file, threads=threads), figures)


@app.command("answerability")
def answerability_(
    data: Data,
    model: OfModel = DEFAULT_MODEL,
    threads: Threads = CORES,
    negatives: Annotated[int, typer.Option(min=1, help="random sentences for each right one")] = 1,
    part: OfPart = "held-out",
    limit: Limit = None,
    figures: Figures = None,
) -> None:
    """Whether the score tells the sentence that answers from others of its article."""
    options = Options("answerability", data, part, limit, model=model, threads=threads, negatives=negatives)
    _carry_out(options, figures)


@app.command()
def cluster(
    data: Data,
    nodes: Nodes = "",
    against: Annotated[
        Literal["eager", "exported"] | None, typer.Option(help="compare with a model here")
    ] = None,
    model: Annotated[str, typer.Option(help="of --against")] = "",
    at_once: AtOnce = 8,
    part: OfPart = "held-out",
    limit: Limit = None,
    figures: Figures = None,
) -> None:
    """By a running cluster: each paragraph is a sentence there, asked by GET of bertspan..."""
    if bool(against) != bool(model):
        raise typer.BadParameter("--against and --model go together")
    if model and Path(model).is_file() != (against == "exported"):
        raise typer.BadParameter(f"--model {model} is not what --against {against} takes")
    options = Options("cluster", data, part, limit, model, nodes=nodes, against=against, at_once=at_once)
    _carry_out(options, figures)


@app.command()
def retrieval(
    data: Data,
    url: Url = "https://localhost:8080",
    nodes: Nodes = "",
    at_once: AtOnce = 1,
    part: OfPart = "held-out",
    limit: Limit = None,
    figures: Figures = None,
) -> None:
    """By /qasearch of a running system, which has to find the sentence too."""
    options = Options("retrieval", data, part, limit, nodes=nodes, url=url, at_once=at_once)
    _carry_out(options, figures)


@app.command("front-door")
def front_door_(
    data: Data,
    url: Url = "https://localhost:8080",
    nodes: Nodes = "",
    corpus: Annotated[
        Literal["part", "file"], typer.Option(help="load the part's articles, or all of the file")
    ] = "part",
    refusal: Annotated[
        bool, typer.Option("--refusal", help="ask each question also of articles that do not answer it")
    ] = False,
    at_once: AtOnce = 1,
    part: OfPart = "held-out",
    limit: Limit = None,
    figures: Figures = None,
) -> None:
    """By /qasearch of a running system, of whole articles that are loaded for it."""
    options = Options("front-door", data, part, limit, nodes=nodes, url=url, at_once=at_once)
    _carry_out(replace(options, corpus=corpus, refusal=refusal), figures)


def _carry_out(options: Options, figures: Path | None) -> None:
    if len({path.stem for path in options.data}) < len(options.data):
        raise typer.BadParameter("two files have the same name")
    with said_in_one_line(
        "evaluate", EvaluateError, squad.BadFile, ExportError, ModelError, tokenizers.TextError, BadSetting,
        OSError, redis.RedisError, RedisClusterException,
    ):  # fmt: skip
        if options.way in ("cluster", "retrieval", "front-door") and not options.nodes:
            options = replace(options, nodes=Settings.from_env().nodes)
        found = evaluate(options, plain_or_terminal())
        if figures:
            figures.write_text(json.dumps(found, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models evaluate", arguments)


if __name__ == "__main__":
    sys.exit(main())
