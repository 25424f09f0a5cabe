"""The Redis exporter, started as --observe does, logs in to the nodes with the system's own credentials."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from tests.patience import patient
from tests.servers import NEEDS_TLS, REPO, Process, RedisServer, ServerTls, connect, free_port, wait_until

PASSWORD = "only-for-this-test"


def scraped(server: RedisServer, env: dict[str, str], scheme: str = "redis") -> str:
    """What the exporter says of the server, when it is started with these variables."""
    exporter = Process("exporter", {"PYTHONPATH": str(REPO), **env})
    address = f"127.0.0.1:{free_port()}"
    exporter.spawn([sys.executable, "-m", "keymiss.local.exporter", address], cwd=REPO)
    try:
        target = {"target": f"{scheme}://127.0.0.1:{server.port}"}

        def asked() -> str:
            try:
                return httpx.get(f"http://{address}/scrape", params=target).text
            except httpx.TransportError:
                return ""

        text = wait_until(asked, 20, "the exporter answers")
        assert PASSWORD not in exporter.log_text()
        command = Path(f"/proc/{exporter.pid}/cmdline").read_bytes()
        assert b"redis-exporter" in command
        assert PASSWORD.encode() not in command
        return text
    finally:
        exporter.terminate()
        exporter.discard()


@pytest.mark.parametrize("by_file", [False, True], ids=["variable", "file"])
def test_with_a_user_and_a_password(server: RedisServer, tmp_path: Path, by_file: bool) -> None:
    with connect(server.port) as client:
        client.execute_command(
            "ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "-@all", "+ping", "+info", "+client|setname"
        )
        client.execute_command("ACL", "SETUSER", "default", "-@all", "+acl", "+ping")
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    given = {"KEYMISS_REDIS_PASSWORD_FILE": str(secret)} if by_file else {"KEYMISS_REDIS_PASSWORD": PASSWORD}
    text = scraped(server, {"KEYMISS_REDIS_USERNAME": "monitor", **given})
    assert "\nredis_up 1" in text
    assert "redis_memory_max_bytes 0" in text
    assert "\nredis_memory_used_bytes" not in scraped(server, {})


def test_without(server: RedisServer) -> None:
    assert "\nredis_up 1" in scraped(server, {})


@NEEDS_TLS
def test_by_tls(tmp_path: Path) -> None:
    tls = ServerTls(tmp_path)
    with RedisServer(tls=tls) as server:
        assert "\nredis_up 1" in scraped(server, tls.env, "rediss")


def test_a_password_file_that_is_not_there(tmp_path: Path) -> None:
    exporter = Process(
        "exporter", {"PYTHONPATH": str(REPO), "KEYMISS_REDIS_PASSWORD_FILE": str(tmp_path / "none")}
    )
    exporter.spawn([sys.executable, "-m", "keymiss.local.exporter", f"127.0.0.1:{free_port()}"], cwd=REPO)
    assert exporter.process is not None
    assert exporter.process.wait(patient(20)) == 2
    assert "cannot be read" in exporter.log_text()
    exporter.discard()
