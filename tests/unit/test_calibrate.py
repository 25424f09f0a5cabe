"""The calibration: known parameters are found again, and what it says of itself is right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from keymiss.models import by_model, calibrate
from keymiss.models.calibrate import CalibrateError
from keymiss.resources import PROJECT
from tests.unit.test_export import small
from tests.unit.test_squad import put, qa


@pytest.mark.parametrize(("scale", "shift"), [(0.7, -1.2), (1.0, 0.0), (0.05, 2.0), (4.0, -9.0)])
def test_known_parameters_are_found_again(scale: float, shift: float) -> None:
    rng = np.random.default_rng(3)
    margins = rng.normal(-shift / scale, 2 / scale, 40_000)
    right = rng.random(40_000) < calibrate.probability(scale * margins + shift)
    found = calibrate.fit(margins, right)
    assert found.scale == pytest.approx(scale, rel=0.05)
    assert found.shift == pytest.approx(shift, rel=0.05, abs=0.05)


def test_margins_that_part_right_from_wrong_stay_finite() -> None:
    found = calibrate.fit([-3, -2, 2, 3], [False, False, True, True])
    assert found.probability(2.5) == pytest.approx(3 / 4, abs=0.1)  # Platt's target of 2 right ones
    assert found.probability(-2.5) == pytest.approx(1 / 4, abs=0.1)


def test_far_margins_do_not_overflow() -> None:
    rng = np.random.default_rng(4)
    margins = np.concatenate((rng.normal(-500, 300, 500), rng.normal(500, 300, 500)))
    found = calibrate.fit(margins, np.arange(1000) >= 500)
    assert 0 < found.scale < 1


@pytest.mark.parametrize(
    ("margins", "right"),
    [([], []), ([1, 2], [True, True]), ([1, 2], [False, False]), ([1, float("nan")], [True, False])],
)
def test_nothing_to_fit(margins: list[float], right: list[bool]) -> None:
    with pytest.raises(CalibrateError, match="nothing to fit"):
        calibrate.fit(margins, right)


def test_a_model_that_is_wrong_way_round() -> None:
    with pytest.raises(CalibrateError, match="do not tell right sentences from wrong ones"):
        calibrate.fit([3, 2, -2, -3], [False, False, True, True])


def test_relevance_and_margin_are_both_found_again() -> None:
    rng = np.random.default_rng(5)
    margins, relevance = rng.normal(0, 2, 40_000), rng.normal(0, 3, 40_000)
    right = rng.random(40_000) < calibrate.probability(0.7 * margins + 0.4 * relevance - 1.0)
    found = calibrate.fit(margins, right, relevance)
    assert (found.scale, found.relevance, found.shift) == pytest.approx((0.7, 0.4, -1.0), rel=0.05)


def test_a_relevance_that_points_the_wrong_way_is_left_out() -> None:
    rng = np.random.default_rng(6)
    margins = rng.normal(0, 2, 2000)
    right = rng.random(2000) < calibrate.probability(margins)
    found = calibrate.fit(margins, right, -margins + rng.normal(0, 1, 2000) - 2.0 * right)
    assert found == calibrate.fit(margins, right)


def test_auc_by_hand() -> None:
    assert calibrate.auc([3, 1, 2, 1], [True, True, False, False]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert calibrate.auc([1, 2], [True, True]) == 0.5


def test_reliability_by_hand() -> None:
    predicted, right = [0.05, 0.15, 0.17, 1.0, 0.95], [False, False, True, True, True]
    bins = calibrate.reliability(predicted, right)
    assert [one.count for one in bins] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (bins[1].predicted, bins[1].observed) == (pytest.approx(0.16), 0.5)
    assert calibrate.calibration_error(bins) == pytest.approx((0.05 + 2 * 0.34 + 2 * 0.025) / 5)
    assert calibrate.brier([0.5, 1.0], [True, False]) == pytest.approx((0.25 + 1) / 2)
    assert calibrate.calibration_error([]) == 0


TOWNS = ["Aston", "Brill", "Corby", "Dunmow", "Epsom", "Frome", "Goole", "Hythe", "Ilkley", "Jarrow"] * 8


def corpus(path: Path) -> Path:
    """80 paragraphs, whose sentences share words with the questions about others."""
    articles = []
    for number, town in enumerate(TOWNS):
        context = f"The mayor of {town} {number} was Smith. The town of {town} has {number} wells. It rains."
        question = f"How many wells has the town of {town} {number}?"
        articles.append([(context, [qa(question, (f"{number} wells", context.index(f"{number} wells")))])])
    return put(path, *articles)


def test_a_calibration_is_fitted_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the shipped reader: an untrained one has nothing to calibrate."""
    folder = tmp_path / "reader"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).symlink_to(PROJECT / "models" / "reader" / name)
    data = corpus(tmp_path)
    assert calibrate.main(["--model", str(folder), str(data)]) == 0
    written = json.loads((folder / "reader.json").read_text())
    fitted_on = written["fitted_on"]
    assert fitted_on["right"] == fitted_on["files"]["given"]["right"] == 3  # of 80 paragraphs
    assert 3 <= fitted_on["wrong"] <= 27
    assert fitted_on["prior"] == pytest.approx(3 / (3 + fitted_on["wrong"]))
    printed = capsys.readouterr().out
    assert "0.9 - 1.0" in printed
    assert printed.count("expected calibration error") == 2
    _, reader = by_model.open_model(str(folder))
    assert reader.calibration is not None
    assert reader.calibration.scale == written["calibration"]["scale"] > 0
    assert sorted(path.name for path in folder.iterdir())[-1] == "tokenizer.json"  # no part is left behind
    assert not list(folder.glob("*.part"))


def test_faults_leave_the_folder_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small(tmp_path / "tiny")
    (folder / "reader.json").write_text('{"calibration": null}')
    few = put(tmp_path, [("Text.", [qa("What?", ("Text", 0))])])  # nothing for calibration
    assert calibrate.main(["--model", str(folder), str(few)]) == 1
    said = capsys.readouterr()
    assert "left out" in said.out
    assert "nothing to fit" in said.err
    assert calibrate.main(["--model", str(folder), str(tmp_path / "none.json")]) == 1
    assert calibrate.main(["--model", str(tmp_path / "none"), str(few)]) == 1
    assert (folder / "reader.json").read_text() == '{"calibration": null}'
