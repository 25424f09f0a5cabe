"""How well questions of SQuAD-format files are answered: exact match and F1, in one table.

    python -m keymiss.models.evaluate eager         --model models/reader         --data FILE [FILE...]
    python -m keymiss.models.evaluate exported      --model var/models/reader.pt  --data FILE [FILE...]
    python -m keymiss.models.evaluate cluster       --nodes 127.0.0.1:30001       --data FILE [FILE...]
    python -m keymiss.models.evaluate retrieval     --url https://localhost:8080  --data FILE [FILE...]
    python -m keymiss.models.evaluate answerability --model models/reader         --data FILE [FILE...]

The same questions, put to the Hugging Face model, to an exported file by the worker's own backends, to a
running cluster (each paragraph is a "sentence", asked by GET of bertspan...), and to /qasearch (which has to
find the sentence too). `answerability`: whether the score tells the sentence that answers from others of its
article.

What is written into the cluster is named evaluate-<run>-... and removed at the end, after Ctrl-C too.
Questions are of the held-out part (squad.split) if not told otherwise. What could not be put counts as
wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import redis
from redis.exceptions import RedisClusterException
from rich.console import Console
from rich.table import Table

from keymiss import keys
from keymiss.environment import BadSetting
from keymiss.models import squad
from keymiss.models.answerability import answerability
from keymiss.models.asking import EvaluateError, Given, Item, Part, in_threads, part_of, processors, scores
from keymiss.models.by_cluster import ASK_LIMIT_S, Visit, by_cluster, visiting
from keymiss.models.by_model import by_model, open_model
from keymiss.models.by_search import RECALL_AT, Search, by_search, recalls
from keymiss.models.export import DEFAULT_MODEL, ExportError, default_out
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.reader import Reader
from keymiss.settings import Settings

PARTS = ("held-out", "calibration", "train", "all")
FILE_COLUMNS = 130  # of a table that does not go to a terminal
SHOWN = 5  # of the answers that differ, and of the reasons why questions could not be put


def plain_or_terminal() -> Console:
    """For standard output; in a file tables are as wide as they have to be."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_COLUMNS)


def show(console: Console, title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """A table with a column for each of `columns` (field -> heading)."""
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(columns.values()):
        table.add_column(heading, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        values = [row[name] for name in columns]
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)


def show_problems(console: Console, given: Sequence[Given]) -> None:
    """Why questions could not be put. EvaluateError if that is so for every one."""
    reasons = [one.problem for one in given if one.problem]
    if reasons and len(reasons) == len(given):
        raise EvaluateError(f"not one question could be put: {reasons[0]}")
    for reason in list(dict.fromkeys(reasons))[:SHOWN]:
        console.print(
            f"could not be put, {reasons.count(reason)} questions: {reason}", markup=False, soft_wrap=True
        )


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


def evaluate(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run one of the ways on every file, print its table; the figures."""
    parts = [part_of(path, options.part, options.limit) for path in options.data]
    way: str = options.way
    if way in ("eager", "exported") and Path(options.model).is_file() != (way == "exported"):
        raise EvaluateError(f"{options.model} is not what `{way}` takes")
    if way == "answerability":
        return _answerability(options, parts, console)
    rows: dict[str, dict[str, Any]] = {}
    all_items: list[Item] = []
    everything: list[Given] = []
    model = open_model(options.model) if getattr(options, "model", None) else None
    for part in parts:
        given, more = _one_part(options, part, model, console)
        rows[part.name] = asdict(scores(part.items, given)) | more
        all_items, everything = all_items + part.items, everything + given
    if len(parts) > 1:
        more = recalls(all_items, everything) if way == "retrieval" else {}
        rows["all"] = asdict(scores(all_items, everything)) | more
    show_problems(console, everything)
    show(console, _title(options), [{"file": name} | row for name, row in rows.items()], _columns(way, rows))
    return {"way": way, "part": options.part, "files": rows}


def _one_part(
    options: argparse.Namespace, part: Part, model: tuple[Model, Reader] | None, console: Console
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
    other = in_threads(by_model(*model), part.items, processors(), options.against, torch=True)
    console.print(f"{part.name}: the cluster, and {options.against} {options.model}")
    return given, {"same_answer": show_differences(console, part.items, given, other)}


def _searched(
    options: argparse.Namespace, part: Part, visit: Visit, console: Console
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


def _title(options: argparse.Namespace) -> str:
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


def _answerability(options: argparse.Namespace, parts: list[Part], console: Console) -> dict[str, Any]:
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


def positive(given: str) -> int:
    """An argument that is a whole number over 0."""
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{given} is not over 0")
    return number


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, nargs="+", required=True, help="files in SQuAD format")
    common.add_argument("--part", choices=PARTS, default=PARTS[0], help="of each file (docs/reader.md)")
    common.add_argument("--limit", type=positive, help="questions of each file, drawn with a fixed seed")
    common.add_argument("--json", type=Path, help="write the figures there")
    parser = argparse.ArgumentParser(
        prog="python -m keymiss.models.evaluate", description=(__doc__ or "").splitlines()[0]
    )
    ways = parser.add_subparsers(dest="way", required=True)
    nodes, exported = Settings.from_env().nodes, str(default_out(DEFAULT_MODEL))
    for name, default in (("eager", DEFAULT_MODEL), ("exported", exported), ("answerability", DEFAULT_MODEL)):
        way = ways.add_parser(name, parents=[common])
        way.add_argument("--model", default=default, help="default: %(default)s")
        way.add_argument("--threads", type=positive, default=processors(), help="default: %(default)s")
    way.add_argument("--negatives", type=positive, default=1, help="random sentences for each right one")
    cluster = ways.add_parser("cluster", parents=[common])
    cluster.add_argument("--against", choices=("eager", "exported"), help="compare with a model here")
    cluster.add_argument("--model", help="of --against")
    search = ways.add_parser("retrieval", parents=[common])
    search.add_argument("--url", default="https://localhost:8080")
    for way, at_once in ((cluster, 8), (search, 1)):
        way.add_argument("--nodes", default=nodes, help="host:port,... of the cluster (default: %(default)s)")
        way.add_argument("--at-once", type=positive, default=at_once, help="questions asked at the same time")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0 done; 1 a file, the model or the cluster is at fault; 130 interrupted."""
    try:
        parser = parser_of()
        options = parser.parse_args(arguments)
        if options.way == "cluster":
            if bool(options.against) != bool(options.model):
                parser.error("--against and --model go together")
            if options.model and Path(options.model).is_file() != (options.against == "exported"):
                parser.error(f"--model {options.model} is not what --against {options.against} takes")
        if len({path.stem for path in options.data}) < len(options.data):
            parser.error("two files of --data have the same name")
        figures = evaluate(options, plain_or_terminal())
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n")
    except (
        EvaluateError, squad.BadFile, ExportError, ModelError, tokenizers.TextError, BadSetting, OSError,
        redis.RedisError, RedisClusterException,
    ) as error:  # fmt: skip
        print(f"keymiss.models.evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keymiss.models.evaluate: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
