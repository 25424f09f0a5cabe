"""Make the reader's score a probability: that of the text's answering the question.

    keymiss models calibrate --model var/train/reader squad_v1_train_head.json covid_qa.json

Platt's method (Platt 1999): the probability is 1 / (1 + exp(-(scale * margin + relevance * r + shift))),
where the margin is the best span's logits minus those of "no answer", and r the relevance logit of a model
that has one; scale, relevance and shift are fitted by logistic regression on questions of the `calibration`
parts (squad.split), which are not trained on. Each question is put to the sentence that answers it and
to the nine others of the file's part with the best BM25, as a search would; those of the nine that hold an
answer too are left out. What is fitted so holds for such a mix.

Writes <model>/reader.json, which the export takes along, and shows on the held-out parts how well what is
predicted agrees with what is observed.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import ArrayLike, NDArray
from rich.console import Console

from keymiss.models import squad
from keymiss.models.answerability import Pool
from keymiss.models.asking import EvaluateError, Item, Part, in_threads, part_of
from keymiss.models.by_model import logits_of, open_folder
from keymiss.models.command_line import CORES, Data, Threads, said_in_one_line
from keymiss.models.export import CALIBRATION_FILE, DEFAULT_MODEL, ExportError, Source
from keymiss.models.tables import plain_or_terminal, show
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.reader import Calibration, Reader
from keymiss.typer_app import exit_code, typer_app

app = typer_app()
CANDIDATES = 9  # wrong sentences of each question: with the right one ten
CHECKED = 200  # questions of each held-out part
BINS = 10
STEPS = 100  # Newton's method takes about ten
ENOUGH = 1e-9  # of the gradient, per example

Floats = NDArray[np.float64]


class CalibrateError(RuntimeError):
    """A calibration that cannot be made; the text says why."""


@dataclass(frozen=True)
class Reading:
    """One question and one sentence. `right`: it answers. `score`: without a calibration. `relevance`: the
    logit of a model that has one."""

    right: bool
    margin: float
    score: float
    relevance: float | None = None


# ---- the fit, and how good it is


def fit(margins: ArrayLike, right: ArrayLike, relevance: ArrayLike | None = None) -> Calibration:
    """Logistic regression of `right` (bool) on `margins`, and on `relevance` if given, all [n].
    CalibrateError if there is one kind only, or no relation. A relevance that tells nothing more than the
    margin is left out.
    """
    columns = [margins] if relevance is None else [margins, relevance]
    weights, shift = logistic_regression(np.asarray(columns, np.float64).T, right)
    if relevance is not None and weights[1] < 0:
        return fit(margins, right)
    try:
        return Calibration(float(weights[0]), shift, *map(float, weights[1:]))
    except tokenizers.TextError:
        raise CalibrateError("the model's margins do not tell right sentences from wrong ones") from None


def logistic_regression(
    given: Floats, right: ArrayLike, counts: ArrayLike | None = None
) -> tuple[Floats, float]:
    """Weights [k] and shift of `right` (bool [n]) on `given` [n, k], by Newton's method; `counts` [n]: how
    much each example counts. Platt's targets are not quite 0 and 1, so that it stays finite if some value
    parts them. CalibrateError if there is one kind only.
    """
    label = np.asarray(right, np.bool_)
    count = np.ones(len(label)) if counts is None else np.asarray(counts, np.float64)
    yes, no = int(label.sum()), int((~label).sum())
    if not (yes and no) or not np.isfinite(given).all():
        raise CalibrateError(f"nothing to fit: {yes} right and {no} wrong sentences")
    target = np.where(label, (yes + 1) / (yes + 2), 1 / (no + 2))
    rows = np.concatenate((given, np.ones((len(given), 1))), axis=1)
    weights = np.array([*[0.0] * given.shape[1], math.log((yes + 1) / (no + 1))])
    for _ in range(STEPS):
        expected = probability(rows @ weights)
        gradient = rows.T @ (count * (expected - target))
        if np.abs(gradient).max() <= ENOUGH * len(given):
            break
        curvature = (rows.T * (count * expected * (1 - expected))) @ rows + 1e-9 * np.eye(rows.shape[1])
        step, rate = np.linalg.solve(curvature, gradient), 1.0
        now = _loss(rows @ weights, target, count)
        while rate > 1e-9 and _loss(rows @ (weights - rate * step), target, count) > now:
            rate /= 2
        weights = weights - rate * step
    return weights[:-1], float(weights[-1])


def probability(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without an overflow."""
    return np.exp(-np.logaddexp(0, -x))


def _loss(x: Floats, target: Floats, count: Floats) -> float:
    return float((count * (np.logaddexp(0, x) - target * x)).sum())


@dataclass(frozen=True)
class Bin:
    """Examples predicted in [low, low + 1 / BINS): how many, the mean predicted, the share that is right."""

    low: float
    count: int
    predicted: float
    observed: float


def reliability(predicted: ArrayLike, right: ArrayLike) -> list[Bin]:
    """The bins, from 0 to 1; in an empty one both shares are 0."""
    given, label = np.asarray(predicted, np.float64), np.asarray(right, np.float64)
    place = np.minimum((given * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        here = place == number
        count = int(here.sum())
        means = (float(given[here].mean()), float(label[here].mean())) if count else (0.0, 0.0)
        bins.append(Bin(number / BINS, count, *means))
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """The mean difference of predicted and observed, each bin by its count (expected calibration error)."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.predicted - one.observed) for one in bins) / total if total else 0.0


def fitted(found: Sequence[Reading]) -> Calibration:
    """`fit` of readings, on their relevance too if the model has it."""
    told = [one.relevance for one in found if one.relevance is not None]
    relevance = told if told and len(told) == len(found) else None
    return fit([one.margin for one in found], [one.right for one in found], relevance)


def brier(predicted: ArrayLike, right: ArrayLike) -> float:
    """The mean square of predicted minus right."""
    return float(np.mean((np.asarray(predicted, np.float64) - np.asarray(right, np.float64)) ** 2))


def auc(values: ArrayLike, right: ArrayLike) -> float:
    """How often a right one has the greater value than a wrong one; a tie counts half. 0.5 of one kind."""
    given, label = np.asarray(values, np.float64), np.asarray(right, np.bool_)
    yes, no = given[label], np.sort(given[~label])
    if not (len(yes) and len(no)):
        return 0.5
    below = (np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")) / 2
    return float(below.mean() / len(no))


# ---- what is read


class Margins:
    """Reads with an eager model: margins and scores without a calibration."""

    def __init__(self, source: Source) -> None:
        self._model: Model = open_folder(source)
        about = self._model.about
        if about is None:
            raise CalibrateError(f"{source.name} does not say how it is read")
        self._plain = Reader.of(replace(about, calibration=None))
        self._by_margin = Reader.of(replace(about, calibration=Calibration(1.0, 0.0)))

    def read(self, question: str, sentence: str, right: bool) -> Reading:
        """TextError says why it cannot be put."""
        known = self._plain.sentence(sentence)
        inputs = self._plain.inputs(question, known)
        starts, ends, *relevance = logits_of(self._model, inputs)
        margin = self._by_margin.answer(known, inputs, starts, ends).margin
        score = self._plain.answer(known, inputs, starts, ends).score
        return Reading(right, margin, score, float(relevance[0].max()) if relevance else None)


def readings(margins: Margins, part: Part, threads: int) -> list[Reading]:
    """Every question of the part with its right sentence and with the candidates that are wrong."""
    pool = Pool([paragraph for article in part.articles for paragraph in article])

    def of(item: Item) -> list[Reading]:
        right = pool.right(item)
        if right is None:
            return []
        wrong = [number for number in pool.nearest(item, CANDIDATES) if not pool.holds(number, item)]
        question = item.question.question
        try:
            return [margins.read(question, pool.texts[number], number == right) for number in (right, *wrong)]
        except tokenizers.TextError:
            return []

    items = [item for item in part.items if item.references]
    return [one for many in in_threads(of, items, threads, part.name, torch=True) for one in many]


def read_parts(
    margins: Margins, paths: Sequence[Path], part: str, limit: int | None, threads: int, console: Console
) -> dict[str, list[Reading]]:
    """The readings of each file that has questions in that part; one that has none is named."""
    found = {}
    for path in paths:
        try:
            found[path.stem] = readings(margins, part_of(path, part, limit), threads)
        except EvaluateError as error:
            console.print(f"left out: {error}", markup=False)
    return found


def counts(found: dict[str, list[Reading]]) -> dict[str, Any]:
    """How many right and wrong sentences, for each file and together."""
    files = {
        name: {"right": sum(one.right for one in many), "wrong": sum(not one.right for one in many)}
        for name, many in found.items()
    }
    right, wrong = (sum(file[kind] for file in files.values()) for kind in ("right", "wrong"))
    return {"right": right, "wrong": wrong, "prior": right / max(1, right + wrong), "files": files}


# ---- the command line


def write(folder: Path, calibration: Calibration, fitted_on: dict[str, Any]) -> Path:
    """<folder>/reader.json, whole or not at all; what else is in it stays."""
    path = folder / CALIBRATION_FILE
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    fields = known | {"calibration": asdict(calibration), "fitted_on": fitted_on}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


def check(console: Console, found: Sequence[Reading], calibration: Calibration) -> None:
    """Print predicted and observed on sentences that nothing was fitted on, before and after."""
    right = [one.right for one in found]
    predicted = {
        "before": [one.score for one in found],
        "after": [calibration.probability(one.margin, one.relevance or 0.0) for one in found],
    }
    bins = {when: reliability(values, right) for when, values in predicted.items()}
    rows = [
        {"score": f"{one.low:.1f} - {one.low + 1 / BINS:.1f}"}
        | {
            f"{name} {when}": value
            for when, at in (("before", one), ("after", other))
            for name, value in _cells(at)
        }
        for one, other in zip(bins["before"], bins["after"], strict=True)
    ]
    headings = {name: name for name in rows[0]}
    show(console, f"held-out questions, {len(found)} sentences, {sum(right)} right", rows, headings)
    for when, values in predicted.items():
        error = calibration_error(bins[when])
        console.print(
            f"{when}: expected calibration error {error:.4f}, Brier score {brier(values, right):.4f}"
        )

    signals = {"margin": [one.margin for one in found], "score": predicted["after"]}
    if all(one.relevance is not None for one in found):
        signals["relevance"] = [one.relevance or 0.0 for one in found]
    told = ", ".join(f"{name} {auc(values, right):.4f}" for name, values in signals.items())
    console.print(f"right against wrong sentences, AUC: {told}")


def _cells(one: Bin) -> list[tuple[str, str]]:
    shares = [f"{share:.3f}" if one.count else "-" for share in (one.predicted, one.observed)]
    return list(zip(("count", "predicted", "observed"), (str(one.count), *shares), strict=True))


@app.command()
def command(
    data: Data,
    model: Annotated[str, typer.Option(help="folder; reader.json is written into it")] = DEFAULT_MODEL,
    limit: Annotated[
        int | None, typer.Option(min=1, help="questions of each calibration part; default: all")
    ] = None,
    check: Annotated[int, typer.Option(min=1, help="questions of each held-out part")] = CHECKED,
    threads: Threads = CORES,
) -> None:
    """Make a reader's score a probability: fit, write reader.json, check."""
    with said_in_one_line(
        "calibrate", CalibrateError, EvaluateError, squad.BadFile, ExportError, ModelError,
        tokenizers.TextError, OSError,
    ):  # fmt: skip
        calibrate(model, data, limit, check, threads, plain_or_terminal())


def calibrate(
    model: str, data: list[Path], limit: int | None, checked: int, threads: int, console: Console
) -> None:
    """Fit, write, check."""
    source = Source(model)
    margins = Margins(source)
    found = read_parts(margins, data, "calibration", limit, threads, console)
    everything = [one for many in found.values() for one in many]
    calibration = fitted(everything)
    fitted_on = counts(found) | {"candidates": CANDIDATES + 1, "part": "calibration"}
    path = write(source.folder, calibration, fitted_on)
    console.print(
        f"{path}: scale {calibration.scale:.4f}, shift {calibration.shift:.4f}, relevance "
        f"{calibration.relevance:.4f}, fitted on "
        f"{fitted_on['right']} right and {fitted_on['wrong']} wrong (prior {fitted_on['prior']:.3f})"
    )
    held_out = read_parts(margins, data, "held-out", checked, threads, console)
    check(console, [one for many in held_out.values() for one in many], calibration)


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models calibrate", arguments)


if __name__ == "__main__":
    sys.exit(main())
