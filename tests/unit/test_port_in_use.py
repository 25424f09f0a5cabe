"""Which ports stand in the way of a start: those that are listened on, not those of a passing connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from keymiss import preflight

HOST = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as server:
        yield server


def test_one_that_is_listened_on_is_said_at_once(listener: socket.socket) -> None:
    start_s = time.monotonic()
    assert preflight.port_in_use(HOST, listener.getsockname()[1])
    assert time.monotonic() - start_s < preflight.PASSING_S / 2


def test_that_of_an_outgoing_connection_is_waited_for(listener: socket.socket) -> None:
    client = socket.create_connection(listener.getsockname())
    port = client.getsockname()[1]
    accepted, _ = listener.accept()
    accepted.close()  # this end closes first, so that it, and not the client's port, lingers
    end = threading.Timer(0.5, client.close)
    end.start()
    try:
        assert not preflight.port_in_use(HOST, port)
    finally:
        end.join()


def test_a_connection_that_stays_is_said_after_a_while(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "PASSING_S", 0.3)
    with socket.create_connection(listener.getsockname()) as client:
        assert preflight.port_in_use(HOST, client.getsockname()[1])


def test_an_address_of_another_machine_is_said_at_once() -> None:
    start_s = time.monotonic()
    assert preflight.port_in_use("192.0.2.1", 0)
    assert time.monotonic() - start_s < preflight.PASSING_S / 2
