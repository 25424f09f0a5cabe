"""TLS to the nodes: whom this process trusts, who it is itself, and why a connection does not come about.

======================= ===========================================================================
KEYMISS_TLS_CA          a file with the certificates (PEM) of the authorities that may sign those of
                        the nodes; set: every connection to a node is TLS
KEYMISS_TLS_CERTIFICATE this process's own certificate, for nodes with `tls-auth-clients yes`
KEYMISS_TLS_KEY         its key
======================= ===========================================================================

A node's certificate must name the address that the node is reached at, as the cluster announces it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, TimeoutError

from keymiss.addresses import Address
from keymiss.environment import BadSetting

CA, CERTIFICATE, KEY = "KEYMISS_TLS_CA", "KEYMISS_TLS_CERTIFICATE", "KEYMISS_TLS_KEY"
LOOK_S = 2.0
"""For a second look at a node that a connection failed to."""
REFUSAL_S = 0.3
"""For a word on this process's certificate."""
EXPIRED, NOT_YET_VALID = 10, 9  # OpenSSL's X509_V_ERR_...
OTHER_NAME = (62, 64)

CLOSED = (RedisConnectionError, InvalidResponse, OSError)
"""How a connection without TLS ends at a node that wants it: closed, maybe after a few bytes of TLS."""


class TlsTrouble(RedisConnectionError):
    """What this process and a node mean by a connection is not the same; the text says what to do."""


@dataclass(frozen=True)
class Tls:
    """Paths of files in PEM; `certificate` and `key` are both "" or both there."""

    ca: str
    certificate: str = ""
    key: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Tls | None:
        """None: no TLS. Raises BadSetting when a file cannot be used."""
        ca, certificate, key = (env.get(name) or "" for name in (CA, CERTIFICATE, KEY))
        if not ca:
            if certificate or key:
                raise BadSetting(
                    f"{CERTIFICATE} and {KEY} need {CA}, the authority of the nodes' certificates"
                )
            return None
        if bool(certificate) != bool(key):
            raise BadSetting(
                f"{CERTIFICATE} and {KEY} go together: {KEY if certificate else CERTIFICATE} is not set"
            )
        for name, path in ((CA, ca), (CERTIFICATE, certificate), (KEY, key)):
            if path:
                _check_readable(name, path)
        made = cls(ca, certificate, key)
        try:
            _ = made.context
        except (ssl.SSLError, OSError) as error:
            raise BadSetting(f"{_blamed(made)} cannot be used: {error}") from None
        return made

    @cached_property
    def context(self) -> ssl.SSLContext:
        """For all connections. Not of the machine's own authorities: only `ca` is trusted."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key, password="")
        return context

    @property
    def client_options(self) -> dict[str, Any]:
        """As redis-py's clients take it."""
        own = {"ssl_certfile": self.certificate, "ssl_keyfile": self.key} if self.certificate else {}
        return {"ssl": True, "ssl_ca_certs": self.ca, **own}

    @property
    def program_arguments(self) -> list[str]:
        """As redis-cli and redis-benchmark take it."""
        own = ["--cert", self.certificate, "--key", self.key] if self.certificate else []
        return ["--tls", "--cacert", self.ca, *own]


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadSetting(
            f"{name}: {path!r} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None


def _blamed(tls: Tls) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(tls.ca)
    except (ssl.SSLError, OSError):
        return f"{CA}: {tls.ca!r}"
    return f"{CERTIFICATE} and {KEY}: {tls.certificate!r} with {tls.key!r}"


@contextmanager
def explained(address: Address, tls: Tls | None) -> Iterator[None]:
    """Raises TlsTrouble in place of a lost connection or a silent node, when that is why."""
    try:
        yield
    except (RedisError, OSError) as error:
        if why := trouble(error, address, tls):
            raise TlsTrouble(why) from error
        raise


def look_at(address: Address, tls: Tls) -> None:
    """Opens a connection to a node that must be TLS, and closes it. Raises TlsTrouble, or OSError."""
    with explained(address, tls):
        _shake_hands(address, tls.context, sends=True)


def trouble(error: BaseException, address: Address, tls: Tls | None) -> str:
    """Why there is no connection to a node, and what to do, when TLS is the reason; "" when it is not.

    Looks at the node again where the error does not say it, for `LOOK_S` or twice that at most.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, (TlsTrouble, ConnectionRefusedError)) for cause in causes):
        return ""
    if not tls:
        if isinstance(error, TimeoutError) or not isinstance(error, CLOSED):
            return ""  # who speaks TLS closes the connection at once
        return _of_a_plain_connection(address)
    if why := _of_tls(causes, address, tls):
        return why
    if not isinstance(error, (RedisConnectionError, TimeoutError, OSError)):
        return ""
    if _answers_in_plain_text(address):
        return f"{address} does not speak TLS there: unset {CA}, or give the node's tls-port"
    if isinstance(error, TimeoutError):
        return ""
    try:
        _shake_hands(address, tls.context, sends=False)
    except OSError as again:  # asyncio does not always tell why a connection ended
        return _of_tls([again], address, tls)
    return ""


def _of_tls(causes: Iterable[BaseException], address: Address, tls: Tls) -> str:
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _of_a_certificate(cause, address, tls)
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return _of_an_alert(str(cause.reason), address, tls)
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_a_certificate(error: ssl.SSLCertVerificationError, address: Address, tls: Tls) -> str:
    said = error.verify_message or str(error)
    if error.verify_code == EXPIRED:
        return f"the certificate of {address}, or of its authority, has expired: the node needs a new one"
    if error.verify_code == NOT_YET_VALID:
        return f"the certificate of {address} is not valid yet: look at the clocks of both machines"
    if error.verify_code in OTHER_NAME:
        return (
            f"the certificate of {address} does not name {address.host}: it must, as its subjectAltName "
            f"({said})"
        )
    return f"{tls.ca}, {CA}, is not the authority that signed the certificate of {address} ({said})"


def _of_an_alert(reason: str, address: Address, tls: Tls) -> str:
    if "CERTIFICATE_REQUIRED" in reason or ("HANDSHAKE_FAILURE" in reason and not tls.certificate):
        return (
            f"{address} wants a certificate of its clients: set {CERTIFICATE} and {KEY}, or tls-auth-clients "
            "no there"
        )
    if tls.certificate:
        return f"{address} does not take the certificate {tls.certificate}: see {CERTIFICATE} ({reason})"
    return f"{address} ends the TLS connection: {reason}"


def _of_a_plain_connection(address: Address) -> str:
    if _answers_in_plain_text(address):  # else it would wait for the rest of what it takes for a command
        return ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _shake_hands(address, context, sends=True)
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return ""
    except OSError:
        return ""
    return f"{address} speaks TLS: set {CA} to the file of the authority that signed its certificate"


def _shake_hands(address: Address, context: ssl.SSLContext, *, sends: bool) -> None:
    with (
        socket.create_connection(address, LOOK_S) as plain,
        context.wrap_socket(plain, server_hostname=address.host) as connection,
    ):
        # With TLS 1.3 a server refuses a client's certificate only after the handshake; its word on that is
        # lost when it has not read what was sent meanwhile.
        if sends:
            connection.sendall(b"PING\r\n")
        else:
            connection.settimeout(REFUSAL_S)
        connection.recv(1)


def _answers_in_plain_text(address: Address) -> bool:
    try:
        with socket.create_connection(address, LOOK_S) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False
