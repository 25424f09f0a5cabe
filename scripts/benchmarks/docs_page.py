"""Puts a run into docs/benchmarks.md, between two marks: table and plots, whose files go to docs/images."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.benchmarks.failure import BenchFailed
from scripts.benchmarks.figures import Results
from scripts.benchmarks.plots import PLOTS
from scripts.benchmarks.table import markdown

REPO = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- scripts/bench.py --docs: begin -->", "<!-- scripts/bench.py --docs: end -->"


class BadPage(BenchFailed):
    """The page has not just one pair of marks."""


def with_table(page: str, table: str) -> str:
    """The page with another table between the marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise BadPage(f"the page needs one line {BEGIN} and one line {END} after it")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def put_into_docs(folder: Path, docs: Path = REPO / "docs") -> list[Path]:
    """What was written. Plots that the run does not have are removed."""
    page, table = docs / "benchmarks.md", markdown(Results.read(folder / "results.json"))
    written = [page]
    for name, (shows, _) in PLOTS.items():
        image = docs / "images" / name
        image.unlink(missing_ok=True)
        if (folder / name).exists():
            written.append(Path(shutil.copy(folder / name, image)))
            table += f"\n![{shows}](images/{name})\n"
    page.write_text(with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")
    return written
