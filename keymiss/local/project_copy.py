"""What the processes need of the project, copied to var/app: the project may be in a folder that is closed to
their user, as one in /root, or made with a umask that closes its files."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from keymiss.local.module_build import module_file
from keymiss.reading.tokenizers import model_folder
from keymiss.resources import INSTALLED_FILES, PACKAGE, PROJECT
from keymiss.settings import Settings

PARTS = ("acl", "grafana", "nginx", "prometheus")


def copy_project(settings: Settings, gid: int) -> Path:
    """Brings var/app up to date, readable by the group `gid`, and returns it. What did not change stays."""
    target = settings.var / "app"
    wanted = dict(_files(settings))
    for name, source in wanted.items():
        _copy(source, target / name, gid)
    for path in sorted(target.rglob("*"), reverse=True):  # what is in a folder comes before it
        if path.is_dir() and any(path.iterdir()):
            os.chown(path, 0, gid)
            path.chmod(0o750)
        elif path.is_dir():
            path.rmdir()
        elif path.relative_to(target) not in wanted:
            path.unlink()
    return target


def copied_model(settings: Settings) -> str:
    """KEYMISS_MODEL for the processes, who take the tokenizer only: a folder of var/app, or a hub's name."""
    folder = model_folder(settings.model)
    return f"models/{folder.resolve().name}" if folder else settings.model


def _files(settings: Settings) -> Iterator[tuple[Path, Path]]:
    """Name in var/app, and the file itself."""
    for part in PARTS:
        for path in _in(PROJECT / part):
            yield path.relative_to(PROJECT), path
    for path in _in(PACKAGE):
        if not path.is_relative_to(INSTALLED_FILES):
            yield path.relative_to(PACKAGE.parent), path
    yield Path("module", "keymiss.so"), module_file(settings)
    folder = model_folder(settings.model)
    if folder and (folder / "tokenizer.json").is_file():
        yield Path(copied_model(settings), "tokenizer.json"), folder / "tokenizer.json"


def _in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def _copy(source: Path, target: Path, gid: int) -> None:
    if not (target.is_file() and filecmp.cmp(source, target, shallow=False)):
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f"{target.name}.new")
        shutil.copyfile(source, new)
        new.replace(target)  # a server that runs goes on with the old module
    os.chown(target, 0, gid)
    target.chmod(0o750 if source.stat().st_mode & 0o100 else 0o640)
