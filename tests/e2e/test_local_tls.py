"""`keymiss up --tls`: the local nodes speak TLS only, what is ours finds that out by itself, it stays so."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from keymiss.local.certificates import local_tls
from keymiss.settings import Settings
from tests.e2e.test_start_stop import Local
from tests.patience import patient
from tests.servers import NEEDS_TLS, REPO, open_folder

pytestmark = NEEDS_TLS


class TlsLocal(Local):
    def cli(self, *args: str, code: int = 0) -> str:
        """What the command line says; without an option it is as before."""
        done = subprocess.run(
            [sys.executable, "-m", "keymiss.cli", *args],
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO), **self.env},
            capture_output=True,
            text=True,
            timeout=patient(110),
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def local() -> Iterator[TlsLocal]:
    system = TlsLocal(open_folder())
    yield system
    system.end()


def speaks_tls(settings: Settings, port: int) -> bool:
    """Whether a connection without TLS gets no word."""
    with socket.create_connection((settings.host, port), patient(5)) as plain:
        plain.sendall(b"PING\r\n")
        try:
            return plain.recv(7) not in (b"+PONG\r\n", b"-NOAUTH")
        except ConnectionResetError:
            return True


def test_up_with_tls_and_without_again(local: TlsLocal) -> None:
    ports = [*local.settings.ports]
    local.cli("up", "--no-load", "--tls")
    settings = Settings.from_env(local.env)
    assert settings.tls
    assert all(speaks_tls(settings, port) for port in ports)
    authority = settings.tls_authority.read_bytes()

    assert str(ports[0]) in local.cli("status")
    assert "ok process worker: runs" in local.cli("doctor", code=1), "no reader, so it is not ready"
    tls = local_tls(settings)
    assert tls
    said = subprocess.run(
        [str(REPO / "scripts" / "redis-cli.sh"), "CONFIG", "GET", "tls-port"],
        env={**os.environ, **local.env},
        capture_output=True,
        text=True,
        timeout=patient(20),
    )
    assert said.stdout.split() == ["tls-port", str(ports[0])], said.stderr
    with redis.Redis(port=ports[0], **tls.client_options) as anybody:
        assert anybody.ping()
        assert anybody.info("replication")["connected_slaves"] == 1

    # The bus takes no one without a certificate of the authority.
    with (
        socket.create_connection((settings.host, ports[0] + 10000), patient(5)) as plain,
        tls.context.wrap_socket(plain, server_hostname=settings.host) as bus,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        bus.recv(1)

    assert "The nodes that run speak TLS: keymiss down" in local.cli("up", "--no-load", "--no-tls", code=1)
    assert "up already" in local.cli("up", "--no-load")
    local.cli("down")
    local.cli("up", "--no-load")
    assert all(speaks_tls(settings, port) for port in ports), "as before"
    assert settings.tls_authority.read_bytes() == authority
    local.cli("down")
    local.cli("up", "--no-load", "--no-tls")
    assert not any(speaks_tls(settings, port) for port in ports)
    assert "The nodes that run speak no TLS: keymiss down" in local.cli("up", "--no-load", "--tls", code=1)
    local.cli("status")
