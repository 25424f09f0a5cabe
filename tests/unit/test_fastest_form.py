"""The form of a reader that this machine runs fastest: what is timed, what is remembered, what is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keymiss.models import export_reader, fastest_form
from keymiss.models.export import Source
from keymiss.models.forms import ExportError
from tests.unit.test_export import small


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path / "var"))
    monkeypatch.setattr(fastest_form, "TIMED_S", 0.05)
    return small(tmp_path / "small")


def say(model: Path, **lost: float) -> None:
    """Writes reader.json; of names "_" stands for "-"."""
    measured = {name.replace("_", "-"): points for name, points in lost.items()}
    (model / "reader.json").write_text(json.dumps({"f1_lost": measured}))


def exported(model: Path) -> set[str]:
    folder = model.parent / "var" / "models"
    return {path.name for path in folder.glob("*") if path.suffix in (".pt", ".onnx")}


def test_a_model_whose_forms_nobody_measured_is_torchscript_and_nothing_is_timed(model: Path) -> None:
    assert fastest_form.fastest_form(Source(str(model))) == "torchscript"
    assert exported(model) == set()


def test_what_loses_little_is_timed_once_and_the_choice_kept(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(model, torchscript_int8=0.1, torchscript_bfloat16=0.6)
    form = fastest_form.fastest_form(Source(str(model)))
    assert form in ("torchscript", "torchscript-int8")
    assert exported(model) == {"small.pt", "small.int8.pt"}
    assert f"form: {form} (ms a sentence on " in capsys.readouterr().out
    assert fastest_form.fastest_form(Source(str(model))) == form
    assert not capsys.readouterr().out
    monkeypatch.setattr(fastest_form, "CPUINFO", model / "no such file")
    assert fastest_form.fastest_form(Source(str(model))) in ("torchscript", "torchscript-int8")
    assert "form: " in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "timed"), [("fma avx2 bf16x", False), ("avx512f avx512_bf16", True)])
def test_bfloat16_is_timed_where_the_processor_has_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, timed: bool
) -> None:
    say(model, torchscript_bfloat16=0.1)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: one\nflags\t\t: {flags}\n")
    monkeypatch.setattr(fastest_form, "CPUINFO", cpuinfo)
    fastest_form.fastest_form(Source(str(model)))
    assert exported(model) == {"small.pt", "small.bfloat16.pt"} if timed else {"small.pt"}


def test_it_is_what_is_exported_unless_a_form_is_asked_for(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(model, torchscript_int8=0.1)
    monkeypatch.setattr(fastest_form, "chosen", lambda ms: "torchscript-int8")
    (path,) = export_reader.exported_files(str(model))
    assert path.name == "small.int8.pt"
    (path,) = export_reader.exported_files(str(model), "torchscript")
    assert path.name == "small.pt"


@pytest.mark.parametrize(
    ("ms", "form"),
    [
        ({"torchscript": 30.0, "torchscript-int8": 10.0, "onnx": 20.0}, "torchscript-int8"),
        ({"torchscript": 30.0, "torchscript-int8": 10.9, "onnx-int8": 10.0}, "torchscript-int8"),
        ({"torchscript": 30.0, "torchscript-int8": 11.1, "onnx-int8": 10.0}, "onnx-int8"),
    ],
)
def test_torchscript_is_taken_when_within_a_tenth(ms: dict[str, float], form: str) -> None:
    assert fastest_form.chosen(ms) == form


@pytest.mark.parametrize("given", ['{"f1_lost": {"stone": 0}}', '{"f1_lost": {"onnx": "x"}}', "[]", "{"])
def test_a_broken_reader_json_is_refused(given: str, model: Path, tmp_path: Path) -> None:
    (model / "reader.json").write_text(given)
    with pytest.raises(ExportError, match=r"reader\.json"):
        fastest_form.fastest_form(Source(str(model)))
