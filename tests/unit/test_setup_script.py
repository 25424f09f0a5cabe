"""scripts/setup.sh as root: a Python and a place that the processes' user can use."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import REPO, open_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="as another user all of it is the caller's")


def shell(home: Path, command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a shell that has read home/scripts/setup.sh."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYMISS_")}
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; source {home}/scripts/setup.sh; {command}"],
        env={**kept, "KEYMISS_USER": "nobody", **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def closed() -> Iterator[Path]:
    """A project in a folder that only root can enter."""
    folder = open_folder()
    folder.chmod(0o700)
    home = folder / f"project-{folder.name}"
    (home / "scripts").mkdir(parents=True)
    shutil.copy(REPO / "scripts/setup.sh", home / "scripts")
    yield home
    for place in Path("/var/lib/keymiss").glob(f"{home.name}-*"):
        shutil.rmtree(place)


def test_a_python_that_only_root_can_run_is_not_taken(closed: Path) -> None:
    python = closed / "python3.11"
    found = shell(REPO, "set_up_user; find_python").stdout.strip()
    assert found
    python.symlink_to(found)
    assert shell(REPO, "find_python", PATH=f"{closed}:{os.environ['PATH']}").stdout.strip() == found


def test_a_closed_project_gets_a_place_that_is_open(closed: Path) -> None:
    said = shell(closed, "set_up_user; set_up_place; echo; echo $VENV")
    assert said.returncode == 0, said.stderr
    var, venv = (closed / "var").readlink(), (closed / ".venv").readlink()
    assert said.stdout.splitlines()[-1] == str(venv)
    assert var.parent == venv.parent
    assert shell(REPO, f"as_processes test -x {var.parent}").returncode == 0
    again = shell(closed, "set_up_user; set_up_place")
    assert (again.returncode, again.stdout) == (0, "")


def test_what_was_in_a_closed_project_moves_along(closed: Path) -> None:
    (closed / "var" / "data").mkdir(parents=True)
    (closed / "var" / "data" / "layout.json").write_text("{}")
    (closed / ".venv").mkdir()
    assert shell(closed, "set_up_user; set_up_place").returncode == 0
    assert (closed / "var").is_symlink()
    assert (closed / "var" / "data" / "layout.json").read_text() == "{}"


def test_a_system_that_runs_is_not_moved(closed: Path) -> None:
    (closed / "var" / "run").mkdir(parents=True)
    (closed / "var" / "run" / "supervisord.pid").write_text(f"{os.getpid()}\n")
    refused = shell(closed, "set_up_user; set_up_place")
    assert refused.returncode == 2
    assert "scripts/stop.sh" in refused.stderr
    assert not (closed / "var").is_symlink()


def test_an_open_project_keeps_its_folders() -> None:
    home = open_folder()
    home.chmod(0o755)
    (home / "scripts").mkdir()
    shutil.copy(REPO / "scripts/setup.sh", home / "scripts")
    said = shell(home, "set_up_user; set_up_place; echo $VENV")
    assert said.stdout.strip() == f"{home}/.venv"
    assert not (home / "var").exists()


def test_a_user_that_there_is_not(closed: Path) -> None:
    refused = shell(closed, "set_up_user", KEYMISS_USER="no-such-user")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "KEYMISS_USER must be a user of this machine, not 'no-such-user'."
