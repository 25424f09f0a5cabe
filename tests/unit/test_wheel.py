"""The wheel: one top-level package, and in it all that is needed away from a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest

from keymiss import __version__
from tests.patience import patient
from tests.servers import REPO

BUILD = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
NEEDED = (
    "acl/users.acl.template",
    "acl/default_user.acl",
    "data/sample/KM0001.json",
    "data/sample/concepts.csv",
    "gears/qa.py",
    "grafana/dashboards/the-pattern.json",
    "grafana/provisioning/datasources/prometheus.yml",
    "models/encoder/model.safetensors",
    "models/reader/model.safetensors",
    "models/reader/reader.json",
    "models/reader/tokenizer.json",
    "models/split-reader/model.safetensors",
    "models/split-reader/reader.json",
    "module/Makefile",
    "module/module.c",
    "nginx/nginx.conf.template",
    "nginx/page/index.html",
    "prometheus/prometheus.yml",
    "prometheus/targets/redis.json",
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Removed at the end: the wheel has 90 MB of weights."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-c", BUILD, str(folder)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=patient(100))
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / done.stdout.split()[-1])


@pytest.fixture(scope="module")
def unpacked(wheel: zipfile.ZipFile, folder: Path) -> Path:
    wheel.extractall(folder / "site")
    return folder / "site"


def away(unpacked: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with the unpacked wheel, in a folder that is no checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYMISS_")}
    place = {
        "PYTHONPATH": str(unpacked),
        "XDG_STATE_HOME": str(unpacked.parent / "state"),
        "KEYMISS_USER": "root",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=unpacked.parent,
        env=kept | place,
        capture_output=True,
        text=True,
        timeout=patient(100),
    )


def test_the_one_top_level_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"keymiss", f"keymiss-{__version__}.dist-info"}
    wrong = [name for name in wheel.namelist() if re.search(r"\.(so|o|pyc)$|/tests/|__pycache__", name)]
    assert wrong == []


def test_what_is_needed_is_in_it_as_it_is_here(wheel: zipfile.ZipFile) -> None:
    for name in NEEDED:
        assert wheel.read(f"keymiss/_files/{name}") == (REPO / name).read_bytes(), name
    code = {name for name in wheel.namelist() if re.fullmatch(r"keymiss/(?!_files).*\.py", name)}
    assert code == {str(path.relative_to(REPO)) for path in (REPO / "keymiss").rglob("*.py")}


def test_it_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    info = f"keymiss-{__version__}.dist-info"
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
    assert metadata["Version"] == __version__
    assert set(metadata.get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])
    assert "keymiss = keymiss.cli.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_files_are_found_away_from_a_checkout(unpacked: Path) -> None:
    show = "from keymiss.resources import PROJECT, default_var as var; print(PROJECT, var(), sep='\\n')"
    project, var = away(unpacked, "-c", show).stdout.split()
    assert Path(project) == unpacked / "keymiss" / "_files"
    assert Path(var) == unpacked.parent / "state" / "keymiss"


def test_the_command_works_away_from_a_checkout(unpacked: Path) -> None:
    command = ("-P", "-m", "keymiss.cli")
    assert away(unpacked, *command, "--version").stdout == f"keymiss {__version__}\n"
    assert "--nodes" in away(unpacked, *command, "gears", "list", "--help").stdout
    found = away(unpacked, *command, "doctor")
    assert found.returncode in (0, 1), found.stderr  # what is in use on this machine is not the point
    assert f"{unpacked.parent}/state/keymiss/module/keymiss.so" in found.stdout


def test_the_module_is_built_in_the_state_folder_and_once(unpacked: Path) -> None:
    build = (
        "from keymiss.local.module_build import *; from keymiss.settings import Settings; "
        "s = Settings.from_env(); print(build_module(s), module_file(s).stat().st_mtime_ns, module_file(s))"
    )
    first, second = (away(unpacked, "-c", build) for _ in range(2))
    assert first.stdout.endswith(f"{unpacked.parent}/state/keymiss/module/keymiss.so\n"), first.stderr
    assert second.stdout == first.stdout
    assert not list((unpacked / "keymiss" / "_files" / "module").glob("*.so"))
