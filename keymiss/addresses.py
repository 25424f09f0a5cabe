"""Where servers listen: ``host:port``, read and written in one place."""

from __future__ import annotations

from typing import NamedTuple

RULE = "must be host:port,host:port,..."


class Address(NamedTuple):
    """A server's host and port. As text ``host:port``, an IPv6 host in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_addresses(text: str) -> tuple[Address, ...]:
    """``"host:port,host:port,..."``. The ValueError's text goes on after a name: ``must be ...``."""
    addresses = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        host, colon, port = part.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{RULE}; {part!r} is not host:port")
        addresses.append(Address(host.strip("[]"), int(port)))
    if not addresses:
        raise ValueError(f"{RULE}; no nodes given")
    return tuple(addresses)
