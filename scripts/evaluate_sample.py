"""How often the running system's first answer is right, on the sample corpus's own 60 questions.

    python scripts/evaluate_sample.py [--url https://localhost:8080]

The same candidates, ranked in several ways: the reader's score alone, BM25 alone, and together, as
/qasearch does. Sentence: it holds the expected answer and is of the right article. Answer: and one of the
two texts holds the other. The questions were written beside the corpus: they compare rankings, no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

QUESTIONS = Path(__file__).resolve().parent.parent / "data" / "sample-questions.json"
RANKINGS: dict[str, Callable[[dict[str, Any]], float]] = {
    "reader alone": lambda r: float(r["reader_score"]),
    "BM25 alone": lambda r: float(r["bm25"]),
    "as /qasearch ranks": lambda r: float(r["score"]),
}


def right_sentence(question: dict[str, str], result: dict[str, Any]) -> bool:
    of_article = result["article"] == question["paper_id"]
    return of_article and question["answer"].casefold() in result["sentence"].casefold()


def right_answer(question: dict[str, str], result: dict[str, Any]) -> bool:
    given, expected = result["answer"].casefold(), question["answer"].casefold()
    return right_sentence(question, result) and (given in expected or expected in given)


def main(url: str = "https://localhost:8080") -> None:
    """How often the running system's first answer is right, on the sample corpus's own 60 questions."""
    questions = json.loads(QUESTIONS.read_text())
    with httpx.Client(base_url=url, verify=False, timeout=60) as http:  # the certificate is self-signed
        asked = [
            (q, http.post("/qasearch", json={"search": q["question"]}).json()["results"]) for q in questions
        ]
    table = Table(title=f"first of the answers, {len(questions)} questions", title_justify="left")
    for column in ("ranking", "sentence right", "answer right"):
        table.add_column(column)
    for name, rank in RANKINGS.items():
        firsts = [(q, max(results, key=rank)) for q, results in asked if results]
        table.add_row(
            name, str(sum(right_sentence(*f) for f in firsts)), str(sum(right_answer(*f) for f in firsts))
        )
    table.add_row(
        "right sentence among the answers",
        str(sum(any(right_sentence(q, source) for r in rs for source in r["sources"]) for q, rs in asked)),
        "",
    )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
