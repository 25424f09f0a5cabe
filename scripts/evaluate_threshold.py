"""What KEYMISS_API_MIN_SCORE costs and saves: right answers that are kept, and questions that are refused.

    python scripts/evaluate_threshold.py [--url https://localhost:8080] [--sample 240] [FILE ...]

The running system must show everything (start it with KEYMISS_API_MIN_SCORE=0). Asked are the sample
corpus's own 60 questions, and of each FILE (SQuAD format) as many questions as --sample says, which the
loaded articles cannot answer. With --answerable they can answer the questions of each FILE: right is then an
answer that holds an expected one, or is held by it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from evaluate_sample import QUESTIONS, right_answer
from rich.console import Console
from rich.table import Table

from keymiss.api.questions.merge import bare

THRESHOLDS = (0.02, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Asked:
    """Whether the first answer is right, how sure the reader is of it, and of its surest answer."""

    right: bool
    first: float
    surest: float


def ask(http: httpx.Client, question: str) -> list[dict[str, Any]]:
    """All results, best first."""
    reply = http.post("/qasearch", json={"search": question, "limit": 100})
    reply.raise_for_status()
    body = reply.json()
    late = body["coverage"]["sentences"]["late"] + body["coverage"]["sentences"]["failed"]
    if late:
        raise SystemExit(f"{late} sentences were late or failed for {question!r}: the figures would be wrong")
    results: list[dict[str, Any]] = body["results"]
    return results


def judged(results: Sequence[dict[str, Any]], right: bool) -> Asked:
    """With the reader's score of each result: its surest source's, as the threshold takes it."""
    scores = [max(source["reader_score"] for source in result["sources"]) for result in results]
    return Asked(right, scores[0] if scores else 0.0, max(scores, default=0.0))


def of_sample(http: httpx.Client) -> list[Asked]:
    """The sample corpus's own questions."""
    found = []
    for question in json.loads(QUESTIONS.read_text()):
        results = ask(http, question["question"])
        found.append(judged(results, bool(results) and right_answer(question, results[0])))
    return found


def of_file(http: httpx.Client, path: Path, size: int) -> list[Asked]:
    """Some questions of a file, always the same ones."""
    data = json.loads(path.read_text())["data"]
    asked = [qa for article in data for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    found = []
    for qa in random.Random(7).sample(asked, min(size, len(asked))):
        results = ask(http, qa["question"])
        given = bare(results[0]["answer"]) if results else ""
        expected = [bare(answer["text"]) for answer in qa["answers"]]
        found.append(judged(results, bool(given) and any(given in one or one in given for one in expected)))
    return found


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="in SQuAD format")] = None,
    url: str = "https://localhost:8080",
    sample: Annotated[int, typer.Option(help="questions of each file")] = 240,
    answerable: Annotated[bool, typer.Option("--answerable", help="the files' articles are loaded")] = False,
) -> None:
    """What KEYMISS_API_MIN_SCORE costs and saves: right answers kept, and questions refused."""
    with httpx.Client(base_url=url, verify=False, timeout=60) as http:  # the certificate is self-signed
        sets = {"sample": of_sample(http)} | {p.stem: of_file(http, p, sample) for p in files or []}
    table = Table(title="share of the questions", title_justify="left")
    table.add_column("threshold")
    for name in sets:
        kept = name == "sample" or answerable
        table.add_column(f"{name}: {'right first answers kept' if kept else 'refused'}")
    for threshold in THRESHOLDS:
        row = [f"{threshold:g}"]
        for name, asked in sets.items():
            if name == "sample" or answerable:
                right = [one for one in asked if one.right]
                row.append(f"{sum(one.first >= threshold for one in right)} of {len(right)}")
            else:
                row.append(f"{sum(one.surest < threshold for one in asked) / len(asked):.1%} of {len(asked)}")
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
