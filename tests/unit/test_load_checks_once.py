"""An export is loaded and run before it is stored, once: the next time only its digest is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keymiss.models import load
from keymiss.models.export import about_file
from tests.servers import REPO
from tests.unit.test_export import small


class Counted:
    """`check_file`, and what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[Path] = []
        self._check = load.check_file
        monkeypatch.setattr(load, "check_file", self)

    def __call__(self, path: Path, *check: object) -> load.Checked:
        self.paths.append(path)
        return self._check(path, *check)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path / "var"))
    return small(tmp_path / "checked-once")


def test_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    first, again = (load.checked_reader(str(folder), "torchscript") for _ in range(2))
    assert first == again
    assert counted.paths == [first[0].path]


def test_not_where_its_file_or_its_source_is_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    (first, _) = load.checked_reader(str(folder), "torchscript")
    first.path.write_bytes(first.blob[:-1] + bytes([first.blob[-1] ^ 1]))
    (again, _) = load.checked_reader(str(folder), "torchscript")  # made anew
    (folder / "reader.json").write_text(json.dumps({"calibration": None}))
    (other, _) = load.checked_reader(str(folder), "torchscript")
    assert counted.paths == [first.path, again.path, other.path]


def test_one_that_does_not_run_is_refused_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, model: object) -> None:
        raise load.LoadError("it does not fit")

    monkeypatch.setattr(load, "_check", refuse)
    for _ in range(2):
        with pytest.raises(load.LoadError, match="it does not fit"):
            load.checked_reader(str(folder), "torchscript")


def test_where_nothing_can_be_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    (made, _) = load.checked_reader(str(folder), "torchscript")
    note = about_file(made.path)
    note.write_text(note.read_text().replace('"runs": true', '"runs": false'))
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(PermissionError))
    assert [load.checked_reader(str(folder), "torchscript")[0] for _ in range(2)] == [made] * 2
    assert len(counted.paths) == 3


def test_torch_is_not_imported_for_it() -> None:
    modules = "keymiss.models.load, keymiss.models.load_encoder, keymiss.models.fastest_form"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, timeout=60).returncode == 0
