"""host:port,host:port as people write it."""

from __future__ import annotations

import pytest

from keymiss.addresses import Address, parse_addresses


def test_addresses_of_every_kind() -> None:
    found = parse_addresses("a:1, [::1]:2,10.0.0.1:65535,")
    assert found == (("a", 1), ("::1", 2), ("10.0.0.1", 65535))
    assert [str(address) for address in found] == ["a:1", "[::1]:2", "10.0.0.1:65535"]
    assert parse_addresses(",".join(map(str, found))) == found


@pytest.mark.parametrize(
    "text", ["", ",", "a", "a:", "a:b", "a:0", ":1", "a:70000", "a:\u0663", "a:1,b", "a:-1"]
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not host:port|no nodes given"):
        parse_addresses(text)


def test_an_address_is_a_pair() -> None:
    host, port = address = Address("h", 1)
    assert (host, port) == address == ("h", 1)
