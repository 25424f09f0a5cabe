"""scripts/bench.py, as it is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import patient
from tests.servers import REPO

SECTIONS = {
    *("hits", "free", "memory", "fresh", "alternatives", "cached", "distinct", "coalesced", "original"),
    *("saturated", "ingest", "growth"),
}
PLOTS = {f"bench-{name}.png" for name in ("fresh", "stages", "rates", "growth", "memory")}


def bench(*arguments: str, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/bench.py", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=patient(limit_s))


@pytest.mark.timeout(420)
def test_the_quick_form_measures_everything(tmp_path: Path) -> None:
    done = bench("--out", str(tmp_path), "--quick", limit_s=400)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {row["section"] for row in results["rows"]} == SECTIONS
    assert all(row["value"] > 0 for row in results["rows"] if row["section"] != "growth")
    assert results["curves"].keys() == {"masters", "sentences", "clients"}
    whole = next(row for row in results["rows"] if row["section"] == "fresh")
    assert sum(results["stages"].values()) == pytest.approx(whole["value"], rel=0.5)
    assert {path.name for path in tmp_path.glob("*.png")} == PLOTS
    assert "a quick run: its figures say nothing" in " ".join(done.stdout.split())


def test_a_section_alone_without_plots(tmp_path: Path) -> None:
    done = bench("--out", str(tmp_path), "--quick", "--no-plots", "--only", "hits", "--form", "torchscript")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    (row, pipelined) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["beside"]["what"] == "the server without the module"
    assert row["beside"]["ratio"] > 0
    assert pipelined["value"] > row["value"]


def test_an_unknown_section_is_named(tmp_path: Path) -> None:
    done = bench("--out", str(tmp_path / "out"), "--only", "hits,speed")
    assert done.returncode == 2
    assert "speed: there are hits, free" in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_docs_need_a_run(tmp_path: Path) -> None:
    done = bench("--out", str(tmp_path), "--docs")
    assert done.returncode == 1
    assert "results.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1
