"""scripts/soak.py: a slope and its error bar, and when it is over the limit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from soak import Slope, slope_of

TIMES_S = np.arange(0, 400, 2.0)


def test_a_line_has_its_slope_and_no_error() -> None:
    slope, error = slope_of(list(TIMES_S), list(7 + TIMES_S * 3 / 60))
    assert slope == pytest.approx(3)
    assert error == pytest.approx(0, abs=1e-9)


def test_the_error_bar_holds_the_slope_in_19_of_20() -> None:
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        slope, error = slope_of(list(TIMES_S), list(TIMES_S * 2 / 60 + chance.normal(0, 5, len(TIMES_S))))
        held += abs(slope - 2) <= error
    assert 360 <= held <= 396


@pytest.mark.parametrize(("slope", "error", "over"), [(3, 0.5, True), (3, 1.5, False), (1, 0.1, False)])
def test_it_is_over_when_that_is_sure(slope: float, error: float, over: bool) -> None:
    assert Slope("memory", 100, slope, error, limit=2).is_over == over
