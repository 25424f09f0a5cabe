"""TLS to the nodes: every kind of connection, and what is said, soon, when the two ends do not agree."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import TimeoutError

from keymiss.addresses import Address
from keymiss.cluster.async_connection import connected, replies_of
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials, refusal
from keymiss.cluster.discovery import Discovery, RefusedError
from keymiss.cluster.redis_cluster import open_cluster
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.tls import Tls, TlsTrouble
from keymiss.local.cluster_creation import cluster_info
from tests.patience import patient
from tests.servers import NEEDS_TLS, RedisClusterServers, RedisServer, ServerTls

pytestmark = NEEDS_TLS
SOON_S = 4.0
"""A node that does not speak TLS waits for more; the handshake's limit is 3 s."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def tls(folder: Path) -> ServerTls:
    return ServerTls(folder / "own")


@pytest.fixture(scope="module")
def node(tls: ServerTls) -> Iterator[RedisServer]:
    """A cluster of one node."""
    with RedisClusterServers(masters=1, tls=tls) as cluster:
        yield cluster.nodes[0]


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def by_thread(address: Address, mine: Credentials) -> Any:
    connection = ShardConnection(address, 3.0, mine)
    try:
        return connection.command("PING")
    finally:
        connection.close()


def by_asyncio(address: Address, mine: Credentials) -> Any:
    async def ask() -> Any:
        async with connected(address, mine, 1.0, "test") as connection:
            (reply,) = await replies_of(connection, ("PING",))
        await asyncio.sleep(0.05)  # the two ends take leave of each other
        return reply

    return asyncio.run(ask())


def by_cluster_client(address: Address, mine: Credentials) -> Any:
    with open_cluster([address], mine, socket_timeout=600) as client:
        return client.execute_command("ECHO", "PONG", target_nodes=client.get_primaries()[0])


WAYS = [by_thread, by_asyncio, by_cluster_client]
Way = Callable[[Address, Credentials], Any]


def of(server: RedisServer) -> Address:
    return Address("127.0.0.1", server.port)


def said(way: Way, server: RedisServer, mine: Credentials) -> str:
    """The sentence of a connection that must not come about, soon."""
    began_s = time.monotonic()
    with pytest.raises(TlsTrouble) as caught:
        way(of(server), mine)
    assert time.monotonic() - began_s < patient(SOON_S)
    assert refusal(caught.value, mine) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_connection(node: RedisServer, tls: ServerTls, way: Way) -> None:
    assert way(of(node), Credentials(tls=tls.trusted)) == b"PONG"


def test_a_connection_has_its_time_limit_and_large_values(node: RedisServer, tls: ServerTls) -> None:
    connection = ShardConnection(of(node), 1.0, Credentials(tls=tls.trusted))
    value = b"x" * 30_000_000
    connection.command("SET", "large", value, timeout_s=patient(20))
    assert connection.command("GET", "large", timeout_s=patient(20)) == value
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.command("BLPOP", "none", 10)
    assert time.monotonic() - began_s < patient(3)
    assert connection.command("EXISTS", "large") == 1, "it connects again"
    connection.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_authority(node: RedisServer, folder: Path, way: Way) -> None:
    other = ServerTls(folder / "other").trusted
    why = said(way, node, Credentials(tls=other))
    assert f"{other.ca}, KEYMISS_TLS_CA, is not the authority that signed" in why


@pytest.mark.parametrize("way", WAYS)
def test_without_tls_to_a_node_that_speaks_it(node: RedisServer, way: Way) -> None:
    assert f"{of(node)} speaks TLS: set KEYMISS_TLS_CA" in said(way, node, NO_CREDENTIALS)


@pytest.mark.parametrize("way", [by_asyncio, by_cluster_client])
def test_tls_to_a_node_that_does_not_speak_it(plain: RedisServer, tls: ServerTls, way: Way) -> None:
    why = said(way, plain, Credentials(tls=tls.trusted))
    assert why == f"{of(plain)} does not speak TLS there: unset KEYMISS_TLS_CA, or give the node's tls-port"


def signed(tls: ServerTls, names: str, *, expired: bool = False) -> list[str]:
    """Arguments for a server with another certificate of the same authority."""
    made = Path(tls.file(f"{'expired' if expired else 'other'}.pem"))
    key, request = made.with_suffix(".key"), made.with_suffix(".csr")
    new = ("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x")
    names_of = ("-addext", f"subjectAltName={names}")
    subprocess.run([*new, *names_of, "-keyout", key, "-out", request], check=True, capture_output=True)
    by = ("-CA", tls.file("ca.pem"), "-CAkey", tls.file("ca-key.pem"), "-CAcreateserial")
    sign = ("openssl", "x509", "-req", "-in", request, *by, "-copy_extensions", "copy", "-out", made)
    subprocess.run([*sign, "-days", "-1" if expired else "1"], check=True, capture_output=True)
    return ["--tls-cert-file", str(made), "--tls-key-file", str(key)]


@pytest.mark.parametrize(
    ("names", "expired", "sentence"),
    [
        ("IP:127.0.0.1", True, "has expired: the node needs a new one"),
        ("DNS:elsewhere", False, "does not name 127.0.0.1: it must, as its subjectAltName"),
    ],
)
def test_certificates_that_do_not_hold(tls: ServerTls, names: str, expired: bool, sentence: str) -> None:
    server = RedisServer(*signed(tls, names, expired=expired), tls=tls)
    server.login |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    with server:
        for way in WAYS:
            assert sentence in said(way, server, Credentials(tls=tls.trusted))


def test_a_node_that_wants_a_certificate(tls: ServerTls) -> None:
    server = RedisServer("--tls-auth-clients", "yes", tls=tls)
    own = Tls(tls.trusted.ca, tls.file("node.pem"), tls.file("node-key.pem"))
    server.login |= own.client_options
    with server:
        for way in (by_thread, by_asyncio):
            assert way(of(server), Credentials(tls=own)) == b"PONG"
        for way in WAYS:
            why = said(way, server, Credentials(tls=tls.trusted))
            assert "wants a certificate of its clients: set KEYMISS_TLS_CERTIFICATE and" in why


def test_whoever_looks_for_the_cluster_says_it(
    node: RedisServer, tls: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match="speaks TLS: set KEYMISS_TLS_CA"):
        Discovery([of(node)], NO_CREDENTIALS).refresh()
    assert len(Discovery([of(node)], Credentials(tls=tls.trusted)).refresh()) == 1
    with pytest.raises(TlsTrouble, match="speaks TLS"):
        cluster_info(of(node))
    monkeypatch.setenv("KEYMISS_TLS_CA", tls.trusted.ca)
    assert cluster_info(of(node))["cluster_state"] == "ok"
