"""What a run measures, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keymiss.models.export import Source, whole_beside

REPO = Path(__file__).resolve().parents[2]
SECTIONS = {
    "hits": "a GET that hits, with the module and without it",
    "free": "misses of a function that costs nothing",
    "memory": "what the whole system has in memory",
    "fresh": "a fresh question, and where its time goes, beside the raw forward of its sentences",
    "alternatives": "the same sentences read by what there is instead (with `fresh`)",
    "cached": "a question whose answers are cached",
    "distinct": "different misses of 50 clients and of one, beside the raw forward",
    "coalesced": "50 clients who miss one key",
    "original": "redis-benchmark -n 10 of an uncached key",
    "saturated": "PING and hits while the model runs all the time",
    "ingest": "articles through the loader, beside the same work in one process",
    "growth": "a fresh question as corpus, masters and clients grow",
}


@dataclass(frozen=True)
class Size:
    """How much is measured. `rounds` is of each figure that is a rate."""

    rounds: int
    questions: int  # fresh ones
    cached: int
    colds: int
    seconds: float  # of what is counted
    settle_s: float  # servers give memory back by then
    hit_requests: tuple[tuple[int, int], ...]  # with that pipeline, so many
    free_requests: tuple[int, int]  # of all clients, of one
    corpus: tuple[int, ...]
    masters: tuple[int, ...]
    clients: tuple[int, ...]


FULL = Size(
    rounds=5,
    questions=30,
    cached=500,
    colds=3,
    seconds=5.0,
    settle_s=15.0,
    hit_requests=((1, 100_000), (16, 1_000_000)),
    free_requests=(10_000, 2000),
    corpus=(1_000, 10_000, 100_000),
    masters=(1, 2, 4, 8),
    clients=(1, 2, 5, 10, 20, 50, 100, 200),
)
QUICK = Size(
    rounds=1,
    questions=2,
    cached=20,
    colds=1,
    seconds=0.5,
    settle_s=0.0,
    hit_requests=((1, 2_000), (16, 10_000)),
    free_requests=(500, 100),
    corpus=(50, 100),
    masters=(1, 2),
    clients=(1, 4),
)


@dataclass(frozen=True)
class Options:
    """Of a run. `before`: a module that hits are compared with too; `haystack`: the Python of its
    environment; `articles`: folders of files in the CORD-19 format, beside the sample."""

    sections: frozenset[str]
    size: Size
    model: str = "models/reader"
    form: str = ""  # "": the one that is fastest here
    masters: int = 4
    replicas: int = 1
    articles: tuple[Path, ...] = ()
    before: Path | None = None
    haystack: Path | None = None
    large: bool = False

    @property
    def whole_model(self) -> str:
        """What is asked in other ways: no other program reads a split reader."""
        return str(whole_beside(Source(self.model).folder))

    def wants(self, *sections: str) -> bool:
        """Any of them."""
        return not self.sections.isdisjoint(sections)
