"""`keymiss`: help, version, wrong use, and that nothing heavy is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keymiss import __version__
from keymiss.cli.main import app
from keymiss.cli.models_commands import COMMANDS
from keymiss.typer_app import exit_code
from tests.patience import patient
from tests.servers import REPO

HEAVY = ("torch", "transformers", "numpy", "onnx", "onnxruntime", "tantivy", "fastapi", "supervisor", "httpx")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert exit_code(app, "keymiss", list(arguments)) == 0
    return capsys.readouterr().out


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=patient(100))


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(capsys: pytest.CaptureFixture[str], option: str) -> None:
    text = said(capsys, option)
    for name in ("up", "down", "status", "ask", "load", "concepts", "gears", "models", "watch", "doctor"):
        assert f"\n  {name} " in text
    gears = said(capsys, "gears", option)
    assert all(f"\n  {name} " in gears for name in ("upload", "list", "remove", "logs"))


def test_every_command_of_models_is_that_of_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    listed = said(capsys, "models", "-h")
    for name in COMMANDS:
        assert f"\n  {name} " in listed
        assert f"Usage: keymiss models {name} " in said(capsys, "models", name, "-h")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == f"keymiss {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["up", "--masters"], ["models", "no-such"], ["ask"]]
)
def test_wrong_use_is_2(arguments: list[str]) -> None:
    assert exit_code(app, "keymiss", arguments) == 2


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--help"], ["gears", "list", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = python(
        "import sys; from keymiss.cli.main import app; from keymiss.typer_app import exit_code; "
        f"exit_code(app, 'keymiss', {arguments}); print('HEAVY', *(set({HEAVY}) & sys.modules.keys()))"
    )
    assert done.stdout.splitlines()[-1].strip() == "HEAVY", done.stderr


def test_a_package_that_is_missing_is_one_sentence() -> None:
    done = python(
        "import sys; sys.modules['torch'] = sys.modules['tokenizers'] = None; "
        "sys.argv = ['keymiss', 'models', 'load']; from keymiss.cli.__main__ import main; main()"
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install 'keymiss[all]'" in done.stderr
