"""`keymiss doctor`: a line for each thing, ok or what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from keymiss.cli.main import app
from keymiss.settings import Settings, server_program
from keymiss.typer_app import exit_code
from tests.e2e.test_start_stop import free_base_port
from tests.servers import free_port, open_folder


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free ports, a folder of its own (with a path that is short), and nobody else to be."""
    monkeypatch.setenv("KEYMISS_VAR", str(open_folder() / "var"))
    monkeypatch.setenv("KEYMISS_USER", "root")
    monkeypatch.setenv("KEYMISS_MASTERS", "1")
    monkeypatch.setenv("KEYMISS_BASE_PORT", str(free_base_port(2)))
    for name in ("API", "HTTPS", "WORKER_METRICS"):
        monkeypatch.setenv(f"KEYMISS_{name}_PORT", str(free_port()))


def server() -> str:
    """The program of the servers that the tests run on."""
    return server_program(Settings.from_env().server)


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = exit_code(app, "keymiss", ["doctor"])
    return code, capsys.readouterr().out.splitlines()


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = doctor(capsys)
    assert code == 0, lines
    assert all(line.startswith("ok ") for line in lines)
    named = " ".join(lines)
    for what in (server(), "nginx", "openssl", "module", "memory", "disk", "ports", "keymiss[worker]"):
        assert what in named


def test_what_is_in_the_way_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("KEYMISS_API_PORT", str(port))
        monkeypatch.setattr("keymiss.local.preflight.available_memory_bytes", lambda: 1 << 30)
        code, lines = doctor(capsys)
    assert code == 1
    wrong = [line for line in lines if line.startswith("!! ")]
    assert len(wrong) == 2
    assert f"Port {port} (for the API) is in use: free it, or set KEYMISS_API_PORT" in wrong[0]
    assert "Only 1.0 GiB of memory" in wrong[1]


def test_a_server_that_is_too_old(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keymiss.cli.doctor.LEAST_VERSIONS", {Path(server()).name: (99, 0)})
    code, lines = doctor(capsys)
    assert code == 1
    assert [line for line in lines if line.startswith(f"!! version of {server()}: at least 99.0 is needed")]


def test_a_part_that_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keymiss.cli.doctor.EXTRAS", {"api": ("no_such_module",)})
    code, lines = doctor(capsys)
    assert code == 1
    assert [line for line in lines if "without no_such_module: pip install 'keymiss[api]'" in line]
