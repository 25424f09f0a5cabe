"""Which ports stand in the way of a start: those that are listened on, not those of a passing connection."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from keymiss.local import preflight
from tests.patience import patient

HOST = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""Of this process alone: other tests' connections have ports of 127.0.0.1, which a kernel gives twice."""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as server:
        yield server


def connect(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection: the one that asked for it, and the other."""
    client = socket.create_connection(listener.getsockname(), timeout=patient(5), source_address=(HOST, 0))
    accepted, _ = listener.accept()
    return client, accepted


def test_one_that_is_listened_on_is_not_waited_for(
    listener: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight.port_in_use(HOST, listener.getsockname()[1])
    assert capsys.readouterr().err == ""


def test_that_of_an_outgoing_connection_is_waited_for(
    listener: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    client, accepted = connect(listener)
    port = client.getsockname()[1]
    accepted.close()  # this end closes first, so that it, and not the client's port, lingers
    end = threading.Timer(0.5, client.close)
    end.start()
    try:
        assert not preflight.port_in_use(HOST, port)
    finally:
        end.join()
    assert capsys.readouterr().err == f"Port {port} is that of a passing connection: waiting 65 s at most.\n"


def test_a_connection_that_stays_is_said_after_a_while(listener: socket.socket) -> None:
    client, accepted = connect(listener)
    with client, accepted:
        assert preflight.port_in_use(HOST, client.getsockname()[1], passing_s=0.3)


def test_one_that_lingers_after_its_close_is_waited_for(listener: socket.socket) -> None:
    client, accepted = connect(listener)
    port = client.getsockname()[1]
    client.close()
    accepted.close()
    assert preflight.port_in_use(HOST, port, passing_s=0.3)  # and so that it is worth waiting for longer:
    assert preflight.PASSING_S > 60


def test_an_address_of_another_machine_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight.port_in_use("192.0.2.1", 0)
    assert capsys.readouterr().err == ""
