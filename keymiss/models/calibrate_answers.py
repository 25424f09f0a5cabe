"""The weights of keymiss.api.questions.sureness: how sure an answer is, by the reader and by retrieval.

    keymiss models calibrate-answers new_wiki.json bioasq.json nq.json --check covid_qa.json

Each file is a corpus by itself. The questions of its `calibration` part (squad.split), on which nothing was
trained, are asked twice: of the whole corpus, and of the half of its articles that none that answers is in.
What is found is read by the exported reader, as on a shard. Fitted in two steps by logistic regression: which
of the sentences found answers; then, on each question's best sentence, whether the corpus answers at all,
questions that it does and does not counting as much. Prints the weights, and what they do on the `held-out`
part of each file of --check; for both parts, what is saved and lost by reading only the first candidates
where one of them is sure (keymiss.models.early_stops). Takes minutes on 2 cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from keymiss.api.questions.sureness import Weights, log_odds, outlook, sureness
from keymiss.api.settings import ApiSettings
from keymiss.models import early_stops, squad
from keymiss.models.asking import EvaluateError, in_threads, percent
from keymiss.models.by_model import find, open_model
from keymiss.models.calibrate import CalibrateError, auc, logistic_regression
from keymiss.models.command_line import CORES, Data, Threads, said_in_one_line
from keymiss.models.export import DEFAULT_MODEL, ExportError
from keymiss.models.export_reader import exported_files
from keymiss.models.find_paragraphs import Corpus, Encoding, Right, split_here
from keymiss.models.tables import plain_or_terminal, show
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import ModelError
from keymiss.retrieval import Candidate, CorpusFilter, Mix
from keymiss.retrieval.across_shards import rank
from keymiss.typer_app import exit_code, typer_app

app = typer_app()
CANDIDATES = 20  # that are read for a question, as the API does
LIMIT = 200  # questions of a file's part
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
COLUMNS = {
    "file": "file", "questions": "questions", "right_1": "right @1", "read": "read", "auc": "AUC",
    **{f"at {threshold}": f"{threshold}: refused / read, refused" for threshold in THRESHOLDS},
}  # fmt: skip

Read = Callable[[str, str], float]
"""The reader's score of (question, sentence)."""


@dataclass(frozen=True)
class Found:
    """A sentence that was read. `right`: it answers."""

    candidate: Candidate
    reader_score: float
    right: bool

    def values(self, vectors: bool) -> list[float]:
        """What is weighed; the last is left out where there are no vectors."""
        of = [log_odds(self.reader_score), self.candidate.coverage]
        return [*of, self.candidate.cosine or 0.0] if vectors else of


@dataclass(frozen=True)
class Asked:
    """A question that was put. `answered`: articles were searched that answer it."""

    answered: bool
    found: Sequence[Found]

    @property
    def right_read(self) -> bool:
        """A sentence that answers was among those read."""
        return any(one.right for one in self.found)


def fit(asked: Sequence[Asked], vectors: bool) -> Weights:
    """CalibrateError if there is one kind of question only."""
    everything = [one for each in asked for one in each.found]
    given = np.array([one.values(vectors) for one in everything])
    weights, shift = logistic_regression(given, [one.right for one in everything])

    def best(each: Asked) -> float:
        return max(float(np.array(one.values(vectors)) @ weights) + shift for one in each.found)

    clear = [each for each in asked if each.right_read or not each.answered]
    label = np.array([each.answered for each in clear])
    counts = np.where(label, 0.5 / label.mean(), 0.5 / (1 - label.mean()))
    scale, offset = logistic_regression(np.array([[best(each)] for each in clear]), label, counts)
    reader, coverage, *cosine = (weights * scale[0]).tolist()
    return Weights(reader, coverage, cosine[0] if cosine else 0.0, float(shift * scale[0] + offset))


def asked_of(path: Path, part: str, limit: int, encoding: Encoding, read: Read, threads: int) -> list[Asked]:
    """Both askings of a file's questions, at most `limit` of them; a question without a find is left out."""
    corpus = Corpus.of(path, part=part, by_sentence=True)
    with_answer = [(question, right) for question, right in corpus.questions if right]
    if not with_answer:
        raise EvaluateError(f"{path}: its {part} part has no question with an answer")
    if len(corpus.articles) < 2:
        raise EvaluateError(f"{path}: one article cannot be put into two halves")
    (hashes,) = split_here(corpus, encoding, 1).values()
    index = {"s0": hashes.index()}
    step = max(1, len(with_answer) // limit)
    questions = with_answer[::step][:limit]
    vectors = encoding.questions([question for question, _ in questions])
    halves = [frozenset(list(corpus.articles)[start::2]) for start in (0, 1)]

    def ask(one: tuple[int, bool]) -> Asked:
        at, answered = one
        question, right = questions[at]
        only = frozenset() if answered else _without(halves, right)
        if not (answered or only):  # every article of that half answers: there is nothing to refuse
            return Asked(answered, [])
        filtered = CorpusFilter(articles=only)
        ranked = rank(index, question, Mix(), vectors[at], None, None, CANDIDATES, filtered)
        return Asked(answered, [
            Found(each, read(question, each.sentence), (each.article, int(each.idx)) in right)
            for _, each in ranked
        ])  # fmt: skip

    put = [(at, answered) for at in range(len(questions)) for answered in (True, False)]
    return [one for one in in_threads(ask, put, threads, path.stem, torch=True) if one.found]


def _without(halves: Sequence[frozenset[str]], right: Right) -> frozenset[str]:
    """The half that the first article that answers is not in, less the other articles that answer."""
    articles = {article for article, _ in right}
    half = next(half for half in halves if min(articles) not in half)
    return half - articles


def reading(model: str) -> Read:
    """By the exported file of a model. ExportError, ModelError."""
    run, reader = open_model(str(exported_files(model)[-1]))

    def read(question: str, sentence: str) -> float:
        try:
            return find(run, reader, question, reader.sentence(sentence)).score
        except tokenizers.TextError:
            return 0.0

    return read


def measured(name: str, asked: Sequence[Asked], sure: Callable[[Found], float]) -> dict[str, object]:
    """Percent; `auc`: a right first answer against the first answer of a question that is not answered."""
    first = [max(each.found, key=sure) for each in asked]
    answered = [(each, best) for each, best in zip(asked, first, strict=True) if each.answered]
    others = [sure(best) for each, best in zip(asked, first, strict=True) if not each.answered]
    right = [sure(best) for _, best in answered if best.right]
    read = [sure(best) for each, best in answered if each.right_read]
    shares = {
        f"at {threshold}": f"{percent([x < threshold for x in others]):.0f} / "
        f"{percent([x < threshold for x in read]):.0f} %"
        for threshold in THRESHOLDS
    }
    return {
        "file": name,
        "questions": len(answered),
        "right_1": percent([best.right for _, best in answered]),
        "read": percent([each.right_read for each, _ in answered]),
        "auc": f"{auc([*right, *others], [*[True] * len(right), *[False] * len(others)]):.3f}",
        **shares,
    }


@app.command()
def command(
    data: Data,
    check: Annotated[list[Path], typer.Option(help="files whose held-out part is measured")] = [],  # noqa: B006
    model: Annotated[str, typer.Option(help="the reader's folder or hub name")] = DEFAULT_MODEL,
    limit: Annotated[int, typer.Option(min=2, help="questions of each file's part")] = LIMIT,
    threads: Threads = CORES,
) -> None:
    """Fit the weights of an answer's score; print them, and what they do on held-out questions."""
    with said_in_one_line(
        "calibrate-answers", CalibrateError, EvaluateError, squad.BadFile, ExportError, ModelError, OSError
    ):
        read, encoding, console = reading(model), Encoding(), plain_or_terminal()
        by_file = {path: asked_of(path, "calibration", limit, encoding, read, threads) for path in data}
        asked = [one for each in by_file.values() for one in each]
        for name, vectors in (("WITH_VECTORS", True), ("WORDS_ALONE", False)):
            console.print(f"{name} = {_rounded(fit(asked, vectors))}", markup=False, soft_wrap=True)
        checked = {path: asked_of(path, "held-out", limit, encoding, read, threads) for path in check}
        rows = [row for path, each in checked.items() for row in _rows(path.stem, each, fit(asked, True))]
        _show_stops(console, "calibration", by_file)
        if rows:
            show(
                console,
                "held-out questions: not answered, refused / answered and read, refused",
                rows,
                COLUMNS,
            )
            _show_stops(console, "held-out", checked)


def _show_stops(console: Console, part: str, asked: Mapping[Path, Sequence[Asked]]) -> None:
    """With the weights that are in use; each file by the rule that is in use."""
    names = ("first_candidates", "sure_score", "max_behind", "min_score")
    *in_use, min_score = (ApiSettings.model_fields[name].default for name in names)

    def rows(name: str, some: Iterable[Asked], *rules: early_stops.Rule) -> list[dict[str, object]]:
        put = [(each.answered, each.found) for each in some]
        rules = rules or early_stops.RULES
        made = early_stops.table(put, sure, lambda one: outlook(one.candidate), min_score, rules)
        return [{"file": name, **row, **{key: f"{row[key]:g}" for key in ("sure", "behind")}} for row in made]

    def sure(one: Found) -> float:
        return sureness(one.reader_score, one.candidate)

    found = rows("all", [one for each in asked.values() for one in each])
    for path, each in asked.items():
        found += rows(path.stem, each, early_stops.Rule(*in_use))
    show(console, f"{part}: reading ends when one is sure", found, early_stops.COLUMNS)


def _rows(name: str, asked: Sequence[Asked], weights: Weights) -> list[dict[str, object]]:
    return [
        measured(f"{name}, reader alone", asked, lambda one: one.reader_score),
        measured(f"{name}, as in the API", asked, lambda one: sureness(one.reader_score, one.candidate)),
        measured(
            f"{name}, as fitted", asked, lambda one: weights.probability(one.reader_score, one.candidate)
        ),
    ]


def _rounded(weights: Weights) -> str:
    told = {
        name: round(float(getattr(weights, name)), 3) for name in ("reader", "coverage", "cosine", "shift")
    }
    return f"Weights({', '.join(f'{name}={value}' for name, value in told.items())})"


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models calibrate-answers", arguments)


if __name__ == "__main__":
    sys.exit(main())
