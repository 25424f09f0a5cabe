"""Articles to load: real ones, and as many made of their sentences as a size needs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from keymiss.corpus.article_file import read_article
from keymiss.corpus.prose import split_sentences
from scripts.benchmarks.failure import BenchFailed

REPO = Path(__file__).resolve().parents[2]
SAMPLE = REPO / "data" / "sample"
AN_ARTICLE = 100  # sentences
A_PARAGRAPH = 10


def article_files(folders: Sequence[Path]) -> list[Path]:
    """Those of the sample, and of the folders. BenchFailed if one has none."""
    found = []
    for folder in (SAMPLE, *folders):
        some = sorted(folder.rglob("*.json"))
        if not some:
            raise BenchFailed(f"there is no file in the CORD-19 JSON format in {folder}")
        found += some
    return found


def sentences_of(files: Sequence[Path]) -> list[str]:
    """As the functions cut them, but for headings and what is no prose."""
    found = itertools.chain.from_iterable(split_sentences(read_article(path).paragraphs) for path in files)
    return [text for text in found if 40 < len(text) < 400 and text.endswith(".")]


def write_articles(real: Sequence[str], size: int, folder: Path) -> list[Path]:
    """So many sentences as articles of AN_ARTICLE: the real ones, again and again, each time with another
    number in each, so that no two are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        real[at] if at < len(real) else f"{real[at % len(real)][:-1]} (report {at // len(real)})."
        for at in range(size)
    ]
    files = []
    for begin in range(0, size, AN_ARTICLE):
        some = texts[begin : begin + AN_ARTICLE]
        paragraphs = [" ".join(some[at : at + A_PARAGRAPH]) for at in range(0, len(some), A_PARAGRAPH)]
        name = f"bench{begin // AN_ARTICLE}"
        article = {
            "paper_id": name,
            "metadata": {"title": f"Reports {begin} to {begin + len(some)}", "authors": []},
            "body_text": [{"section": "Reports", "text": text} for text in paragraphs],
        }
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(article), encoding="utf-8")
    return files
